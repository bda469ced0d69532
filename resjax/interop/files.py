"""Files of weights from other frameworks, opened as the tensors of one network."""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from resjax.config import ConfigError, type_and_message
from resjax.interop.choosing import FoundNetwork, choose_network, notes_on_choice
from resjax.interop.formats import Content, open_content
from resjax.interop.rebuilding import Tensor

REPARAMETRISED = {
    "_orig": "torch.nn.utils.prune.remove(module, 'weight')",
    "_mask": "torch.nn.utils.prune.remove(module, 'weight')",
    "_g": "torch.nn.utils.remove_weight_norm(module)",
    "_v": "torch.nn.utils.remove_weight_norm(module)",
    ".original0": "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight')",
    ".original1": "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight')",
    ".original": "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight')",
}
"""Suffixes of tensors from which a weight is computed, and the calls that merge them."""

SHARD = re.compile(r"-(\d+)-of-(\d+)\.\w+$|\.index\.json$")
"""Name of a shard of weights that transformers has split, or of the index of its shards."""

CONVERTED = ("float16", "bfloat16", "float64")


class Tensors:
    """The tensors of a network by name, each read when it is asked for, as float32.

    Attributes:
      shapes: {name: shape} of the tensors of floats, in the order of the file.
      batches: number of batches that the running statistics have seen; None if it is not said.
      metadata: metadata of a .safetensors file; a pickle has none.
      architecture: name that the file gives the network; empty if it gives none.
      notes: lines to be printed about what differs from the file.
    """

    def __init__(self, tensors: Mapping[str, Tensor], content: Content, what: str, size: int):
        self._tensors, self._what = tensors, what
        self.metadata, self.architecture = content.metadata, content.architecture
        self.notes = list(content.notes)
        self.shapes, counters, converted = {}, [], {}
        for name, tensor in tensors.items():
            if name.endswith(".num_batches_tracked"):
                counters.append(name)
                continue
            kind = tensor.dtype
            if kind not in ("float32", *CONVERTED) or tensor.read is None:
                raise ConfigError(
                    f"{what}: {name!r} is {kind}; resjax reads float32, float16, bfloat16, float64"
                )
            if kind in CONVERTED:
                converted[kind] = converted.get(kind, 0) + 1
            self.shapes[name] = tensor.shape
        if 2 * sum(map(math.prod, self.shapes.values())) > size:
            raise ConfigError(
                f"{what} says that its tensors are larger than itself, with {size} bytes; ask for "
                "a .safetensors file"
            )
        for kind, number in converted.items():
            self.notes.append(f"{number} tensors were {kind} and are converted to float32")
        self.batches = max(map(self._counted, counters), default=None)

    def __getitem__(self, name: str) -> np.ndarray:
        with np.errstate(over="ignore"):  # what is beyond float32 is refused as not finite
            return self._read(name).astype(np.float32, copy=False)

    def _counted(self, name: str) -> int:
        counter = self._read(name)
        try:
            return int(counter.item())
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(f"{self._what}: {name!r} is no number of batches") from None

    def _read(self, name: str) -> np.ndarray:
        try:
            return np.asarray(self._tensors[name].read())
        except Exception as error:  # a file that is damaged can raise anything
            raise ConfigError(
                f"{self._what}: {name!r} cannot be read "
                f"({type_and_message(error)[:120]}); fetch it again"
            ) from None


@contextlib.contextmanager
def open_file(path: Path, choice: str = "") -> Iterator[Tensors]:
    """Opens the tensors of a safetensors file or a PyTorch checkpoint, without running code.

    The first bytes of a file say what it is, and not its suffix.

    Args:
      path: the file.
      choice: network to take of several; empty takes the only one that is not an average.

    Raises:
      ConfigError: if the file is neither, is cut off, or has no such network.
    """
    if (shard := SHARD.search(path.name)) and shard[2] not in ("1", "00001"):
        raise ConfigError(
            f"{path} is one of the files into which the weights of a network were cut; write them "
            "to a single one by network.save_pretrained(DIR, max_shard_size='99GB')"
        )
    with open_content(path) as content:
        network = choose_network(content, choice, str(path))
        _refuse_reparametrised(network, str(path))
        tensors = Tensors(network.tensors, content, str(path), path.stat().st_size)
        tensors.notes = [*notes_on_choice(content, network), *tensors.notes]
        yield tensors


def _refuse_reparametrised(network: FoundNetwork, what: str) -> None:
    """Raises ConfigError for weights that are pruned or normalised on use."""
    for name in network.tensors:
        end = next((end for end in REPARAMETRISED if name.endswith(f"weight{end}")), None)
        if end:
            raise ConfigError(
                f"{what}: {name!r} is a part of which a weight is computed; have the network hold "
                f"the weight itself before it is saved: {REPARAMETRISED[end]}"
            )
