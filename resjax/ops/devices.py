"""The axis of devices that a batch is cut over, as the program of one device sees it.

A function that is one device's share of a program names the axis `DEVICES`. The same function in a
program of one device has no such axis: then there is one device, whose share is everything.
"""

from typing import Any

import jax

DEVICES = "devices"
"""Name of the axis."""


def device_count() -> int:
    """Devices along the axis; 1 where there is none."""
    try:
        return jax.lax.axis_size(DEVICES)
    except NameError:  # no such axis in the program that is traced
        return 1


def device_index() -> jax.Array | int:
    """Which of them this is."""
    return jax.lax.axis_index(DEVICES) if device_count() > 1 else 0


def total(tree: Any) -> Any:
    """The sum over all devices of every array, on each of them."""
    return jax.lax.psum(tree, DEVICES) if device_count() > 1 else tree
