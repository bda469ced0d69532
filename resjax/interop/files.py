"""Files of tensors that other frameworks wrote: safetensors, and pickles without code."""

import contextlib
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resjax.config import ConfigError
from resjax.training.weights import open_tensors

SAFETENSORS = ".safetensors"

PICKLES = (".pth", ".pt", ".th", ".bin")

NESTED = ("state_dict", "model")
"""Keys under which a training script keeps the tensors beside other things."""

WRAPPER = "module."
"""What nn.DataParallel puts before every name."""

CONVERTED = ("float16", "bfloat16", "float64")


class Tensors:
    """The tensors of a file by name, each read when it is asked for, as float32.

    Attributes:
      shapes: {name: shape} of those that are floats, in the order of the file.
      batches: that the running statistics have seen; None if the file does not say.
      metadata: of a .safetensors file; a pickle has none.
      notes: what was changed of what the file says, to be told.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        dtypes: Mapping[str, str],
        read: Callable[[str], np.ndarray],
        what: str,
        metadata: Mapping[str, str] | None = None,
    ):
        self._read = read
        self.metadata = metadata or {}
        self._names = _unwrapped(shapes)
        self.notes = []
        if self._names and next(iter(self._names)) != self._names[next(iter(self._names))]:
            self.notes.append(f"the names begin with {WRAPPER!r}, which was left out")
        self.shapes, counters, converted = {}, [], {}
        for name, original in self._names.items():
            if name.endswith(".num_batches_tracked"):
                counters.append(original)
                continue
            kind = dtypes[original]
            if kind not in ("float32", *CONVERTED):
                raise ConfigError(
                    f"{what}: {name!r} is {kind}; resjax reads float32, float16, bfloat16, float64"
                )
            if kind in CONVERTED:
                converted[kind] = converted.get(kind, 0) + 1
            self.shapes[name] = tuple(shapes[original])
        for kind, number in converted.items():
            self.notes.append(f"{number} tensors were {kind} and are converted to float32")
        self.batches = max((int(read(name)) for name in counters), default=None)

    def __getitem__(self, name: str) -> np.ndarray:
        return np.asarray(self._read(self._names[name])).astype(np.float32, copy=False)


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[Tensors]:
    """The tensors of a .safetensors file, or of a .pth by PyTorch's reader that runs no code.

    Raises:
      ConfigError: if it is neither, is cut off, or a pickle of more than tensors.
    """
    if not path.is_file():
        raise ConfigError(f"there is no file {path}; name a .safetensors or .pth file")
    if path.suffix == SAFETENSORS:
        with open_tensors(path) as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            yield Tensors(
                {name: tuple(one.get_shape()) for name, one in slices.items()},
                {
                    name: _DTYPES.get(one.get_dtype(), one.get_dtype())
                    for name, one in slices.items()
                },
                file.get_tensor,
                str(path),
                file.metadata(),
            )
    elif path.suffix in PICKLES:
        tensors = _unpickled(path)
        yield Tensors(
            {name: tuple(tensor.shape) for name, tensor in tensors.items()},
            {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()},
            lambda name: _to_numpy(tensors[name]),
            str(path),
        )
    else:
        raise ConfigError(
            f"{path} is neither {SAFETENSORS} nor {', '.join(PICKLES)}; convert it to safetensors"
        )


_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64",
           "I64": "int64"}  # fmt: skip


def _unpickled(path: Path) -> dict[str, Any]:
    try:
        import torch
    except ModuleNotFoundError:
        raise ConfigError(
            f"{path} is a pickle, which PyTorch reads: pip install 'resjax[torch]'; or convert it "
            "to safetensors"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of protocols that it may not know
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"{path} is refused: {_reason(error)}; ask for a .safetensors file"
        ) from None
    except Exception as error:  # a file that is cut off or foreign can raise anything
        raise ConfigError(f"{path} cannot be read ({_one_line(error)}); fetch it again") from None
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path} holds a {type(content).__name__}, and no tensors by name")
    tensors = {str(name): one for name, one in content.items() if isinstance(one, torch.Tensor)}
    if not tensors:
        raise ConfigError(f"{path} holds no tensors by name; save the state_dict of the network")
    return tensors


def _to_numpy(tensor: Any) -> np.ndarray:
    import torch

    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _is_zip(path: Path) -> bool:
    """Whether it is of PyTorch 1.6 or later, whose tensors need not be copied to be read."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _unwrapped(shapes: Mapping[str, Any]) -> dict[str, str]:
    """{name: name in the file}, without the wrapper if all of them have it."""
    if shapes and all(name.startswith(WRAPPER) for name in shapes):
        return {name.removeprefix(WRAPPER): name for name in shapes}
    return {name: name for name in shapes}


def _reason(error: pickle.UnpicklingError) -> str:
    """What the pickle wants that is no tensor, in a line."""
    text = " ".join(str(error).split())
    if wanted := re.search(r"GLOBAL (\S+?)[.]? ", text):
        return f"it is a pickle that wants to run {wanted[1]!r}"
    return "it is a pickle of more than tensors"


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
