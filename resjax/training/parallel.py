"""Programs as one device's share, run on all devices: by jit over a mesh, or by pmap.

A share is a function of arrays that every device has whole, and of arrays that are split along an
axis into equal shards, one for each device in their order. Whatever it returns whole it reduces
over the axis `resjax.ops.devices.DEVICES`. Nothing is left to XLA's partitioner, which would gather
all activations for a gradient that it does not understand.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from resjax.ops import native
from resjax.ops.devices import DEVICES
from resjax.ops.elementwise import in_few_calls
from resjax.ops.platform import platform

Axes = tuple[int | None, ...]
"""Axis along which each argument is split over the devices; None if it is whole on every device."""


def _by_mesh(
    share: Callable,
    mesh: Mesh,
    in_axes: Axes,
    out_axis: int | None,
    donate_argnums: tuple[int, ...],
) -> Callable:
    specs = tuple(map(_spec, in_axes))
    mapped = jax.shard_map(
        _as_compiled(share, donate_argnums),
        mesh=mesh,
        in_specs=specs,
        out_specs=_spec(out_axis),
        check_vma=False,
    )
    return jax.jit(
        mapped,
        in_shardings=tuple(NamedSharding(mesh, spec) for spec in specs),
        out_shardings=NamedSharding(mesh, _spec(out_axis)),
        donate_argnums=donate_argnums,
    )


def _by_pmap(
    share: Callable,
    mesh: Mesh,
    in_axes: Axes,
    out_axis: int | None,
    donate_argnums: tuple[int, ...],
) -> Callable:
    """Runs a share by pmap; `out_axis=None` is device 0's value, as a share reduces its result."""
    mapped = jax.pmap(
        _as_compiled(share, donate_argnums),
        DEVICES,
        in_axes=in_axes,
        out_axes=out_axis,
        devices=None if mesh.size == jax.device_count() else list(mesh.devices.flat),
        donate_argnums=donate_argnums,
    )
    return mapped if jax.process_count() == 1 else _CompiledWhenCalled(mapped)


@dataclasses.dataclass
class _CompiledWhenCalled:
    """Stand-in for lowering pmap on several hosts: it takes a host's own shards when called.

    A pmap of several hosts cannot be compiled ahead for the shards of one.
    """

    function: Callable

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def lower(self, *_: Any) -> "_CompiledWhenCalled":
        return self

    def compile(self) -> Callable:
        return self.function


STYLES = {"jit": _by_mesh, "pmap": _by_pmap}


@dataclasses.dataclass(frozen=True)
class Parallel:
    """The devices of a run, and how a program runs on all of them.

    Attributes:
      devices: the devices, in the order of their shares.
      style: key of `STYLES`, which does not change results.
    """

    devices: tuple[jax.Device, ...]
    style: str = "jit"

    @property
    def count(self) -> int:
        """Number of devices, on all hosts."""
        return len(self.devices)

    @property
    def hosts(self) -> int:
        """Number of processes that have some of the devices."""
        return len({device.process_index for device in self.devices})

    @property
    def here(self) -> list[int]:
        """Numbers of the devices of this host."""
        host = jax.process_index()
        return [n for n, device in enumerate(self.devices) if device.process_index == host]

    @property
    def mesh(self) -> Mesh:
        """Mesh of the devices along one axis."""
        return Mesh(np.array(self.devices), (DEVICES,))

    def across(
        self,
        in_axes: Axes,
        own: tuple[bool, ...] = (),
        *,
        out_axis: int | None = None,
        donate_argnums: tuple[int, ...] = (),
    ) -> dict[str, Any]:
        """Options of `resjax.training.programs.program` that run a share on all devices.

        Args:
          in_axes: axis along which each argument is split; None if it is whole.
          own: own[i] tells whether argument i has a leading axis of runs when several train in one
            program; see `resjax.training.seeds.SideBySide`.
          out_axis: axis along which the result is split; None if it is whole.
          donate_argnums: numbers of the arguments whose memory the result takes.
        """
        return {
            "transform": STYLES[self.style],
            "mesh": self.mesh,
            "in_axes": in_axes,
            "out_axis": out_axis,
            "donate_argnums": donate_argnums,
        }

    def function(self, share: Callable, in_axes: Axes, out_axis: int | None = None) -> Callable:
        """Wraps a share to be compiled when called; `in_axes` and `out_axis` are as in `across`."""
        options = self.across(in_axes, out_axis=out_axis)
        return options.pop("transform")(share, **options)

    def of_each(self, function: Callable) -> Callable:
        """The same function; on devices that compute several runs at once, that of each of them."""
        return function

    def shape_of_own(self, shape: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        """The shape of an argument that is separate for each run: that of one run."""
        return shape

    def whole(self, tree: Any) -> Any:
        """Puts arrays that every host has on all devices, whole."""
        sharding = NamedSharding(self.mesh, PartitionSpec())
        if self.hosts == 1:
            return jax.device_put(tree, sharding)

        def place(value: Any) -> jax.Array:
            value = np.asarray(value)
            return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

        return jax.tree.map(place, tree)

    def shard(self, value: Any, axis: int | None = None) -> Any:
        """Prepares an array that every host has as an argument, split along an axis or whole.

        Each host takes its own shards of an array that is split.

        Raises:
          ValueError: if the axis cannot be split into as many shards as there are devices.
        """
        if axis is None:
            return value if self.hosts == 1 else self.whole(value)
        if value.shape[axis] % self.count:
            raise ValueError(f"an axis of {value.shape[axis]} is not a multiple of {self.count}")
        if self.style == "pmap":
            value = value.reshape(self.sharded_shape(value, axis).shape)
            return value if self.hosts == 1 else value.take(self.here, axis)
        if self.hosts == 1:
            return value  # the program splits it
        sharding = NamedSharding(self.mesh, _spec(axis))
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

    def shard_own(self, value: np.ndarray, axis: int) -> Any:
        """Prepares a split array from the part for this host's devices, in their order.

        By jit it begins to send the shards to accelerators, which takes a while, before a program
        is called with them.
        """
        if self.style == "pmap":
            return value.reshape(*value.shape[:axis], len(self.here), -1, *value.shape[axis + 1 :])
        if self.hosts == 1 and platform() == "cpu":
            return value  # it is there
        return jax.make_array_from_process_local_data(NamedSharding(self.mesh, _spec(axis)), value)

    def sharded_shape(self, value: Any, axis: int) -> jax.ShapeDtypeStruct:
        """The shape of the result of `shard`; pmap adds an axis of the devices."""
        shape = value.shape
        if self.style == "pmap":
            shape = (*shape[:axis], self.count, shape[axis] // self.count, *shape[axis + 1 :])
        return jax.ShapeDtypeStruct(shape, value.dtype)


def _as_compiled(share: Callable, donate_argnums: tuple[int, ...]) -> Callable:
    """Gathers a share's elementwise work in few native calls where the CPU kernels are in use."""
    return in_few_calls(share, donate_argnums) if native.in_use() else share


def _spec(axis: int | None) -> PartitionSpec:
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, DEVICES)
