"""One device's share of a program, run on all of them: by jit over a mesh, or by pmap.

A share is a function of arrays that every device has whole, and of arrays that are cut along an
axis into equal pieces, one for each device in their order. Whatever it returns whole it reduces
over the axis `resjax.ops.devices.DEVICES`. Nothing is left to XLA's partitioner, which would gather
all activations for a gradient that it does not understand.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from resjax.ops import native
from resjax.ops.devices import DEVICES
from resjax.ops.elementwise import in_few_calls
from resjax.training.lanes import side_by_side
from resjax.training.programs import program
from resjax.waits import waiting

Cut = tuple[int | None, ...]
"""Axis along which each argument is cut over the devices; None is whole on every device."""


def _by_mesh(
    share: Callable, mesh: Mesh, cut: Cut, out: int | None, donate_argnums: tuple[int, ...]
) -> Callable:
    specs = tuple(map(_spec, cut))
    mapped = jax.shard_map(
        _as_compiled(share, donate_argnums),
        mesh=mesh,
        in_specs=specs,
        out_specs=_spec(out),
        check_vma=False,
    )
    return jax.jit(
        mapped,
        in_shardings=tuple(NamedSharding(mesh, spec) for spec in specs),
        out_shardings=NamedSharding(mesh, _spec(out)),
        donate_argnums=donate_argnums,
    )


def _by_pmap(
    share: Callable, mesh: Mesh, cut: Cut, out: int | None, donate_argnums: tuple[int, ...]
) -> Callable:
    """Runs a share by pmap; `out=None` is device 0's value, as a share reduces its result."""
    mapped = jax.pmap(
        _as_compiled(share, donate_argnums),
        DEVICES,
        in_axes=cut,
        out_axes=out,
        devices=None if mesh.size == jax.device_count() else list(mesh.devices.flat),
        donate_argnums=donate_argnums,
    )
    return mapped if jax.process_count() == 1 else _CompiledWhenCalled(mapped)


@dataclasses.dataclass
class _CompiledWhenCalled:
    """Stand-in for lowering pmap on several hosts: it takes a host's own pieces when called.

    A pmap of several hosts cannot be compiled ahead for the pieces of one.
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
    def mesh(self) -> Mesh:
        """Mesh of the devices along one axis."""
        return Mesh(np.array(self.devices), (DEVICES,))

    def program(
        self,
        share: Callable,
        parts: tuple,
        arguments: tuple,
        cut: Cut,
        donate_argnums: tuple[int, ...] = (),
        each: tuple[bool, ...] = (),
    ) -> Callable:
        """Compiles `share(*parts, *arguments)`; see `resjax.training.programs.program`.

        Args:
          share: function that one device computes; its result is whole.
          parts: constants of the program.
          arguments: arrays, or their shapes as `shape_of_pieces` gives them.
          cut: axis along which each argument is cut, not counting an axis of lanes.
          donate_argnums: numbers of the arguments whose memory the result takes.
          each: marks of the arguments that have an axis of lanes; if any has, so has the result.
        """
        what = share.__name__.replace("_", " ")
        if any(each):
            share, parts, cut = side_by_side, (share, each, parts), _behind_lanes(cut, each)
        options = {"mesh": self.mesh, "cut": cut, "out": None, "donate_argnums": donate_argnums}
        with waiting(f"compiling {what}"):
            return program(share, parts, arguments, STYLES[self.style], **options)

    def function(
        self, share: Callable, cut: Cut, out: int | None = None, each: tuple[bool, ...] = ()
    ) -> Callable:
        """Wraps a share to be compiled when called; its result may be cut, along the axis `out`."""
        if any(each):
            share = functools.partial(side_by_side, share, each, ())
            cut, [out] = _behind_lanes(cut, each), _behind_lanes((out,), (True,))
        return STYLES[self.style](share, self.mesh, cut, out, ())

    def whole(self, tree: Any) -> Any:
        """Puts arrays that every host has on all devices, whole."""
        sharding = NamedSharding(self.mesh, PartitionSpec())
        if self.hosts == 1:
            return jax.device_put(tree, sharding)

        def place(value: Any) -> jax.Array:
            value = np.asarray(value)
            return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

        return jax.tree.map(place, tree)

    def pieces(self, value: np.ndarray, axis: int | None = None) -> Any:
        """Prepares an array that every host has as an argument, cut along an axis or whole.

        Each host takes its own pieces of an array that is cut.

        Raises:
          ValueError: if the axis cannot be cut into as many pieces as there are devices.
        """
        if axis is None:
            return value if self.hosts == 1 else self.whole(value)
        if value.shape[axis] % self.count:
            raise ValueError(f"an axis of {value.shape[axis]} is not a multiple of {self.count}")
        if self.style == "pmap":
            value = value.reshape(self.shape_of_pieces(value, axis).shape)
            if self.hosts == 1:
                return value
            here = [
                n for n, device in enumerate(self.devices)
                if device.process_index == jax.process_index()
            ]  # fmt: skip
            return value.take(here, axis)
        if self.hosts == 1:
            return value  # the program cuts it
        sharding = NamedSharding(self.mesh, _spec(axis))
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

    def own_pieces(self, value: np.ndarray, axis: int) -> Any:
        """Prepares a cut array from the part that this host's devices take, in their order."""
        if self.style == "pmap":
            here = sum(device.process_index == jax.process_index() for device in self.devices)
            return value.reshape(*value.shape[:axis], here, -1, *value.shape[axis + 1 :])
        if self.hosts == 1:
            return value
        return jax.make_array_from_process_local_data(NamedSharding(self.mesh, _spec(axis)), value)

    def shape_of_pieces(self, value: Any, axis: int) -> jax.ShapeDtypeStruct:
        """Shape of what `pieces` makes of an array; pmap adds an axis of the devices."""
        shape = value.shape
        if self.style == "pmap":
            shape = (*shape[:axis], self.count, shape[axis] // self.count, *shape[axis + 1 :])
        return jax.ShapeDtypeStruct(shape, value.dtype)


def _as_compiled(share: Callable, donate_argnums: tuple[int, ...]) -> Callable:
    """Gathers a share's elementwise work in few native calls where the CPU kernels are in use."""
    return in_few_calls(share, donate_argnums) if native.in_use() else share


def _behind_lanes(cut: Cut, each: tuple[bool, ...]) -> Cut:
    """Axes along which arguments are cut, one further for those with a leading axis of lanes."""
    pairs = zip(cut, each, strict=True)
    return tuple(axis if axis is None else axis + own for axis, own in pairs)


def _spec(axis: int | None) -> PartitionSpec:
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, DEVICES)
