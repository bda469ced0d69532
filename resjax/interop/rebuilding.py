"""Names in PyTorch checkpoints, and the functions that replace them here."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

LONGEST_NAME = 256
"""Maximum number of letters of a key."""

STORAGES: dict[str, Any] = {
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "DoubleStorage": np.float64,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "UntypedStorage": np.uint8,
    "BoolStorage": np.bool_,
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
}


class Tensor(NamedTuple):
    """A tensor in a file.

    Attributes:
      shape: its shape, with the axes in the order of the file.
      dtype: name of its dtype in NumPy, or another kind of tensor, such as "sparse".
      read: function that reads its values; None if there is nothing that NumPy can hold.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray] | None


class Unread:
    """A stand-in for an object that is not a tensor; every operation on it has no effect."""

    label = ""

    def __new__(cls, *arguments: Any, **named: Any):
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **named: Any):
        pass

    def _pass_over(self, *arguments: Any, **named: Any) -> "Unread":
        return self

    __setstate__ = __setitem__ = __call__ = append = extend = add = _pass_over


class Storage(NamedTuple):
    """Numbers in a file: their dtype, their count, and a function that reads them."""

    dtype: np.dtype
    count: int
    read: Callable[[], np.ndarray]


def put(table: Any, items: list[Any]) -> Any:
    """Adds keys and values, which alternate, to a mapping, and returns it.

    Mappings that are wanted have names and numbers alone as keys. To hash others, such as tuples of
    tuples, may take forever or overflow the stack.
    """
    for key, value in zip(items[::2], items[1::2], strict=True):
        is_name = isinstance(key, str) and len(key) <= LONGEST_NAME
        if is_name or (type(key) is int and abs(key) < 1 << 63):
            table[key] = value
    return table


def _mapping(pairs: Iterable[Any] = (), *_: Any) -> dict[Any, Any]:
    return put({}, [part for pair in pairs for part in pair])


def sizes_of(numbers: Iterable[Any]) -> tuple[int, ...]:
    """Checks that numbers from a file are valid sizes.

    Raises:
      ValueError: for anything but whole numbers from 0 to below 2^63.
    """
    sizes = tuple(numbers)
    if not all(type(size) is int and 0 <= size < 1 << 63 for size in sizes):
        raise ValueError("a size that is none")
    return sizes


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage):  # pickle.dump packs its numbers in bytes of another kind
        return Tensor(sizes_of(shape), "packed by another program", None)
    (offset,), shape, strides = sizes_of([offset]), sizes_of(shape), sizes_of(strides)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 not in shape and last >= storage.count:
        raise ValueError("a tensor that is not in its storage")

    def read() -> np.ndarray:
        values = storage.read()[offset:] if 0 not in shape else np.zeros(1, storage.dtype)
        steps = [stride * storage.dtype.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(values, shape, steps, writeable=False)

    return Tensor(shape, storage.dtype.name, read)


def _of_dtype(storage: Any, offset: Any, shape: Any, *others: Any) -> Tensor:
    dtype = next((one for one in others if isinstance(one, type)), Unread)
    return Tensor(sizes_of(shape), getattr(dtype, "label", "").removeprefix("torch."), None)


KNOWN: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": lambda *arguments: {},
    "torch.Size": tuple,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _of_dtype,
    "torch._utils._rebuild_parameter": lambda tensor, *others: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *others: tensor,
    "torch._tensor._rebuild_from_type_v2": lambda make, kind, parts, state: make(*parts),
    "torch._utils._rebuild_sparse_tensor": lambda layout, data: Tensor(
        sizes_of(data[2]) if len(data) > 2 else (), "sparse", None
    ),
    "torch._utils._rebuild_meta_tensor_no_storage": lambda dtype, shape, *others: Tensor(
        sizes_of(shape), "meta, without values", None
    ),
    "torch._utils._rebuild_qtensor": lambda storage, offset, shape, *others: Tensor(
        sizes_of(shape), "quantised", None
    ),
}
"""Functions that make tensors and mappings, by the names that pickles give them."""
