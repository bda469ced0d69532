"""The axis of devices over which a batch is split, as seen by the program of one device.

A function that is one device's share of a program finds the axis by its name, `DEVICES` unless
another is given. The same function in a program of one device has no such axis: then there is one
device, whose share is everything.
"""

from collections.abc import Collection
from typing import Any

import jax

DEVICES = "devices"
"""Name of the axis in the programs of `resjax.training.parallel`."""


def device_count(axis: str | None = DEVICES) -> int:
    """The number of devices along an axis; 1 for None, or in a program that is not split.

    Raises:
      ValueError: in a `pmap` or `shard_map` whose axes have other names, where each device would
        silently be taken for all of them. The name of an axis of `vmap` cannot be seen.
    """
    if axis is None:
        return 1
    try:
        return jax.lax.axis_size(axis)
    except NameError:  # no such axis in the program that is traced
        others = sorted(jax.sharding.get_abstract_mesh().manual_axes)
    if others:
        raise ValueError(
            f"this program is split over devices along {', '.join(map(repr, others))}, and not "
            f"along {axis!r}; name its axis {axis!r}. Where only the network is applied, and no "
            f"step of resjax, it may have axis_name={others[0]!r} instead, or axis_name=None to "
            "normalise on each device by itself"
        )
    return 1


def device_index() -> jax.Array | int:
    """Index of this device along the axis `DEVICES`; 0 in a program of one device."""
    return jax.lax.axis_index(DEVICES) if device_count() > 1 else 0


def total(tree: Any) -> Any:
    """The sum of every array over all devices, on each of them."""
    return jax.lax.psum(tree, DEVICES) if device_count() > 1 else tree


def vary_over(array: jax.Array, axes: Collection[str]) -> jax.Array:
    """Has an array vary over axes of devices; its gradient is then that of each device.

    In `shard_map` the gradient of an array that is the same on all devices is already the sum over
    them, unless `check_vma` is off.
    """
    missing = sorted({*axes} - jax.typeof(array).manual_axis_type.varying)
    return jax.lax.pcast(array, tuple(missing), to="varying") if missing else array


def varying_over_devices(tree: Any) -> Any:
    """Has arrays vary over the axis `DEVICES`, if the program has it."""
    if device_count() == 1:
        return tree
    return jax.tree.map(lambda leaf: vary_over(leaf, [DEVICES]), tree)
