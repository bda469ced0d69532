"""Takes one training step that is split over devices in every way of JAX; run by test_parallel.py.

    python -m tests.training.split_by_hand

Prints, for every way and the platform that it is traced for, how far the parameters are from those
of one device: the norm of the difference by that of the update, in float64.
"""

import functools
import json

import jax
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

jax.config.update("jax_enable_x64", True)

import resjax
from resjax.models import products
from resjax.ops.platform import traced_for
from resjax.training.state import TrainState

EXAMPLES, SIDE = 64, 8

products.DTYPES = (np.float64,)  # in which errors show
model = resjax.named_model(
    "cifar-resnet11", classes=10, block="bottleneck", shortcut="projection", width=2,
    dtype="float64",
)  # fmt: skip
optimizer = optax.sgd(0.1)
state = resjax.create_state(model, optimizer, seed=0, image_shape=(SIDE, SIDE, 3))
step = functools.partial(resjax.train_step, model, resjax.cross_entropy, optimizer.update)
random = np.random.default_rng(0)
batch = random.normal(size=(EXAMPLES, SIDE, SIDE, 3)), random.integers(10, size=EXAMPLES)
key = jax.random.key(0)


def in_shard_map(micro_batches: int = 1, **options) -> TrainState:
    """The state after a step under `shard_map`, whose batches are cut into micro-batches."""
    mesh = jax.make_mesh((jax.device_count(),), ("devices",), axis_types=(AxisType.Auto,))

    def share(state, batch, key):
        if micro_batches > 1:
            batch = jax.tree.map(lambda a: a.reshape(micro_batches, -1, *a.shape[1:]), batch)
        return step(state, batch, key)

    specs = P(), P("devices"), P()
    split = jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=P(), **options)
    return jax.jit(split)(state, batch, key)[0]


def over_a_mesh(kind: AxisType) -> TrainState:
    """The state after a step whose arrays are split over a mesh, as the compiler sees fit."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(kind,))
    whole, rows = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    moved, _ = jax.jit(lambda *given: step(*given))(
        jax.device_put(state, whole), jax.device_put(batch, rows), key
    )
    return moved


def change(moved: TrainState) -> np.ndarray:
    """How far all parameters are from where they began."""
    pairs = zip(jax.tree.leaves(moved.params), jax.tree.leaves(state.params), strict=True)
    return np.concatenate([np.ravel(np.asarray(after) - np.asarray(own)) for after, own in pairs])


WAYS = {
    "shard_map": in_shard_map,
    "shard_map without check_vma": functools.partial(in_shard_map, check_vma=False),
    "mesh": functools.partial(over_a_mesh, AxisType.Auto),
}

if jax.__version_info__ < (0, 12):  # from then on, the loss of optax refuses such arrays
    WAYS["mesh with explicit axes"] = functools.partial(over_a_mesh, AxisType.Explicit)

found = {}
for platform in ("cpu", "gpu"):
    with traced_for(platform):
        jax.clear_caches()
        expected = change(jax.jit(lambda *given: step(*given))(state, batch, key)[0])
        for name, way in WAYS.items():
            away = np.linalg.norm(change(way()) - expected) / np.linalg.norm(expected)
            found[f"{name}, {platform}"] = away
        # Micro-batches of a device are normalised each by itself, with those of the other devices.
        own = change(in_shard_map(2)) - change(in_shard_map(2, check_vma=False))
        found[f"micro-batches, {platform}"] = np.linalg.norm(own) / np.linalg.norm(expected)
print(json.dumps(found))
