"""Resident data: splits as arrays on the device, from which the compiled step takes its batch."""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from resjax.config import ConfigError
from resjax.config.text import space
from resjax.data.batch import Batch
from resjax.data.source import Encoded, Split

ROOM_TO_SPARE = 2
"""Images that fit into a device's free memory so many times are not what fills it."""


class Resident(struct.PyTreeNode):
    """A split on the device; images keep the dtype of the source until they are taken.

    Each image is a row, since a TPU takes rows as they are. To take images `[H, W, C]` it would
    first bring all of them into another layout, in every call.

    Attributes:
      rows: the images `[n, H W C]`.
      labels: `[n]`.
      mean: `[C]` or `[H, W, C]`, in the units of the images.
      deviation: `[C]`.
      image_shape: H, W and C.
    """

    rows: jax.Array
    labels: jax.Array
    mean: jax.Array
    deviation: jax.Array
    image_shape: tuple[int, ...] = struct.field(pytree_node=False)

    def take(self, index: jax.Array) -> Batch:
        """The examples with numbers `index` `[N]`, (image - mean) / deviation in float32."""
        images = self.rows[index].reshape(-1, *self.image_shape)
        images = (images.astype(jnp.float32) - self.mean) / self.deviation
        return Batch(images, self.labels[index])


def to_device(split: Split, mean: np.ndarray, deviation: np.ndarray) -> Resident:
    """Puts a split on the default device."""
    return Resident(
        jnp.asarray(split.images.reshape(len(split), -1)),
        jnp.asarray(split.labels),
        jnp.asarray(mean, jnp.float32),
        jnp.asarray(deviation, jnp.float32),
        split.images.shape[1:],
    )


def decode_split(
    split: Encoded, most_bytes: int, on_bad: str, exif: bool
) -> tuple[Split, dict[str, str]]:
    """Decodes a whole split.

    Args:
      split: a split whose images have one size.
      most_bytes: the most bytes that the images may take.
      on_bad: what to do about an image that cannot be decoded: "refuse", or "skip".
      exif: whether images are turned upright as their EXIF metadata say.

    Returns:
      The split, and the names of the images that were skipped with what is wrong with each.

    Raises:
      ConfigError: if its images differ in size, take more than `most_bytes`, or cannot be decoded.
    """
    from resjax.data.decode import decode

    images, labels, left_out = None, np.empty(len(split), np.int32), {}
    for number in range(len(split)):
        data, label = split.read(number)
        try:
            image = decode(data, split.channels, exif)
        except ValueError as error:
            if on_bad == "refuse":
                raise ConfigError(
                    f"{split.name(number)} cannot be decoded: {error}; data.on_bad=skip leaves it "
                    "out"
                ) from None
            left_out[split.name(number)] = str(error)
            continue
        if images is None:
            refuse_too_many_bytes(len(split) * image.nbytes, most_bytes)
            images = np.empty((len(split), *image.shape), np.uint8)
        if image.shape != images.shape[1:]:
            sizes = " and ".join("x".join(map(str, s[:2])) for s in (images.shape[1:], image.shape))
            raise ConfigError(
                f"images of {sizes} cannot be resident together; set data.size=224 or so, the side "
                "of the crops that are made of them"
            )
        good = number - len(left_out)
        images[good], labels[good] = image, label
    if images is None:
        name, why = next(iter(left_out.items()))
        raise ConfigError(f"no image of a split can be decoded; the first is {name} ({why})")
    good = len(split) - len(left_out)
    return Split(images[:good], labels[:good]), left_out


def refuse_too_many_bytes(size: int, most: int) -> None:
    """Raises ConfigError for resident images that take more bytes than allowed."""
    if size > most:
        raise ConfigError(
            f"{space(size)} of images are more than data.resident_bytes={most}; set it "
            "higher, or data.size to stream them"
        )


def refuse_no_room(size: int, devices: Iterable[jax.Device]) -> None:
    """Raises ConfigError for resident images that do not fit into a device of this host.

    Nothing is refused where a backend does not report its memory, such as that of CPUs.
    """
    for device in devices:
        if device.process_index != jax.process_index():
            continue
        free = free_bytes(device)
        if free is not None and size > free:
            raise no_room_message(size, f"the {space(free)} that are free on {device}")


def refused_by_device(size: int, devices: Sequence[jax.Device]) -> ConfigError:
    """The error for resident images that a device had no room for when they were put there.

    JAX counts no bytes but its own. Where images would fit twice into what it takes to be free on
    a GPU, another process has the memory.
    """
    kind = devices[0].device_kind
    here = [device for device in devices if device.process_index == jax.process_index()]
    free = min((count for count in map(free_bytes, here) if count is not None), default=0)
    if devices[0].platform != "gpu" or ROOM_TO_SPARE * size > free:
        return no_room_message(size, f"the memory of {kind}")
    return ConfigError(
        f"{kind} has no room for {space(size)} of images, though JAX may take "
        f"{space(free)}; another process seems to hold its memory: find it with "
        "nvidia-smi and end it, or start each with XLA_PYTHON_CLIENT_MEM_FRACTION=0.45 or so"
    )


def free_bytes(device: jax.Device) -> int | None:
    """Free bytes of a device's memory; None if its backend does not report them."""
    memory = device.memory_stats() or {}
    if "bytes_limit" not in memory:
        return None
    return memory["bytes_limit"] - memory["bytes_in_use"]


def no_room_message(size: int, where: str) -> ConfigError:
    """The error message for resident images of `size` bytes that do not fit somewhere."""
    return ConfigError(
        f"{space(size)} of images do not fit into {where}; set data.size to stream them, "
        "or take fewer, such as data.train='train[:50%]' (data.resident_bytes is the most allowed)"
    )
