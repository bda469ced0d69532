"""One device's share of a program, run on all of them: by jit over a mesh, or by pmap.

A share is a function of arrays that every device has whole, and of arrays that are cut along an
axis, of which a device has one piece of as many equal ones as there are devices, in their order. It
reduces over the axis `resjax.ops.devices.DEVICES` whatever it returns whole. Nothing is left to
XLA's partitioner: it would gather all activations for a gradient that it does not understand.
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

Cut = tuple[int | None, ...]
"""For every argument the axis along which it is cut; None is whole on every device."""


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
    """`out=None` returns device 0's value: a share reduces what it returns."""
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
    """On several hosts pmap is called with a host's own pieces, and cannot be compiled for them."""

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
      devices: in the order of their shares.
      style: key of `STYLES`; the result is the same.
    """

    devices: tuple[jax.Device, ...]
    style: str = "jit"

    @property
    def count(self) -> int:
        """Number of devices, on all hosts."""
        return len(self.devices)

    @property
    def hosts(self) -> int:
        """Processes that have some of the devices."""
        return len({device.process_index for device in self.devices})

    @property
    def mesh(self) -> Mesh:
        """The devices along the one axis."""
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
        """`share(*parts, *arguments)`, compiled; see `resjax.training.programs.program`.

        Args:
          share: what one device computes; its result is whole.
          parts: constants of the program.
          arguments: arrays, or their shapes as `shape_of_pieces` gives them.
          cut: for each argument, as it is in one lane.
          donate_argnums: arguments whose memory the result takes.
          each: which arguments have an axis of lanes; then the result has it.
        """
        if any(each):
            share, parts, cut = side_by_side, (share, each, parts), _behind_lanes(cut, each)
        options = {"mesh": self.mesh, "cut": cut, "out": None, "donate_argnums": donate_argnums}
        return program(share, parts, arguments, STYLES[self.style], **options)

    def function(
        self, share: Callable, cut: Cut, out: int | None = None, each: tuple[bool, ...] = ()
    ) -> Callable:
        """The same, compiled when it is called; its result may be cut, along the axis `out`."""
        if any(each):
            share = functools.partial(side_by_side, share, each, ())
            cut, [out] = _behind_lanes(cut, each), _behind_lanes((out,), (True,))
        return STYLES[self.style](share, self.mesh, cut, out, ())

    def whole(self, tree: Any) -> Any:
        """Arrays that every host has, on all devices."""
        sharding = NamedSharding(self.mesh, PartitionSpec())
        if self.hosts == 1:
            return jax.device_put(tree, sharding)

        def place(value: Any) -> jax.Array:
            value = np.asarray(value)
            return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

        return jax.tree.map(place, tree)

    def pieces(self, value: np.ndarray, axis: int | None = None) -> Any:
        """An array that every host has, as an argument, cut along an axis or whole.

        Of a cut one each host takes its own pieces.

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
        """As `pieces`, of an array that has only what this host's devices take, in their order."""
        if self.style == "pmap":
            here = sum(device.process_index == jax.process_index() for device in self.devices)
            return value.reshape(*value.shape[:axis], here, -1, *value.shape[axis + 1 :])
        if self.hosts == 1:
            return value
        return jax.make_array_from_process_local_data(NamedSharding(self.mesh, _spec(axis)), value)

    def shape_of_pieces(self, value: Any, axis: int) -> jax.ShapeDtypeStruct:
        """Of what `pieces` makes of an array; pmap has an axis of the devices."""
        shape = value.shape
        if self.style == "pmap":
            shape = (*shape[:axis], self.count, shape[axis] // self.count, *shape[axis + 1 :])
        return jax.ShapeDtypeStruct(shape, value.dtype)


def _as_compiled(share: Callable, donate_argnums: tuple[int, ...]) -> Callable:
    """What XLA is given of a share: for CPUs with little elementwise work of its own."""
    return in_few_calls(share, donate_argnums) if native.in_use() else share


def _behind_lanes(cut: Cut, each: tuple[bool, ...]) -> Cut:
    """The axes along which arguments are cut, if some have one of lanes before all others."""
    pairs = zip(cut, each, strict=True)
    return tuple(axis if axis is None else axis + own for axis, own in pairs)


def _spec(axis: int | None) -> PartitionSpec:
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, DEVICES)
