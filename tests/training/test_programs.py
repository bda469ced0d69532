import collections
import functools
import gc
import itertools
import weakref

import jax
import jax.numpy as jnp
import pytest
from jax import monitoring
from jax.experimental.compilation_cache import compilation_cache

from resjax.config import default_config
from resjax.models.blocks import ORDERS
from resjax.models.build import build_model
from resjax.models.shortcuts import SHORTCUTS
from resjax.ops.value import by_value
from resjax.runs.loop import train_and_evaluate
from resjax.training import programs
from resjax.training.programs import program


@pytest.fixture
def compiled():
    """The names of all programs that are compiled, or loaded, while the test runs."""
    names = []

    def listen(event, seconds, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(about["fun_name"])

    monitoring.register_event_duration_secs_listener(listen)
    yield names
    monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def no_disk():
    """Without the cache on disk."""
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


def forget():
    programs._transformed.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("no_disk")
def test_a_sweep_over_seeds_and_learning_rates_compiles_every_program_once(
    tiny, tmp_path, compiled
):
    forget()
    tiny.train.duration, tiny.train.steps_per_call = "4 steps", 2
    grid = itertools.product(range(3), (0.05, 0.02, 0.01))
    losses, counts = set(), []
    for number, (tiny.seed, tiny.optim.learning_rate) in enumerate(grid):
        tiny.optim.momentum, tiny.optim.weight_decay = 0.1 * number, 0.01 * number
        losses.add(train_and_evaluate(tiny, tmp_path / str(number)).train_loss)
        counts.append(collections.Counter(compiled))
        compiled.clear()
    for name in ("train_steps", "eval_step"):
        assert counts[0][f"jit({name})"] == 1
    assert counts[1:] == [{}] * 8
    assert len(losses) == 9


def final(config, directory):
    """The last line of metrics, as text: equal ones are equal to the bit."""
    train_and_evaluate(config, directory)
    return (directory / "metrics.jsonl").read_text().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optim.nesterov", True),
        ("optim.decayed", "kernels"),
        ("optim.momentum", 0.5),
        ("optim.name", "adamw"),
        ("optim.clip_norm", 0.01),
        ("data.cutmix", 1.0),
        ("norm.epsilon", 0.1),
        ("norm.kind", "none"),
        ("model.dtype", "bfloat16"),
        ("model.shortcut", "none"),
        ("model.stochastic_depth", 0.5),
        ("train.batch_size", 101),
        ("data.standardise", "none"),
        ("data.name", "fake:8x8x3:10:300"),
        ("data.name", "fake:8x8x1:7:300"),
    ],
)
def test_a_changed_key_is_not_served_the_program_of_another_run(tiny, tmp_path, key, value):
    """Of a network that compiles quickly, under a weight decay that shows what it acts on."""
    tiny.model.name, tiny.model.depth = "mlp", 4
    tiny.train.duration, tiny.optim.weight_decay = "4 steps", 1.0
    forget()
    before = final(tiny, tmp_path / "before")
    tiny.update_from_flattened_dict({key: value})
    warm = final(tiny, tmp_path / "warm")
    forget()
    assert warm == final(tiny, tmp_path / "cold")
    assert warm != before


def test_networks_of_one_config_are_equal_and_those_of_two_are_not():
    def build(**keys):
        config = default_config()
        config.model.update(keys)
        return by_value(build_model(config, 10))

    made = set()
    for shortcut, order, width in itertools.product(SHORTCUTS, ORDERS, (16, 8)):
        keys = {"shortcut": shortcut, "order": order, "width": width}
        assert build(**keys) == build(**keys)
        made.add(build(**keys))
    assert len(made) == len(SHORTCUTS) * len(ORDERS) * 2


def test_values_of_different_types_and_signs_are_different_parts():
    parts = [1, 1.0, True, "1", 0.0, -0.0, None, (1,), [1], {"a": 1}, int, functools.partial(abs)]
    assert len({by_value(part) for part in parts}) == len(parts)


def applied(function, x):
    return function(x)


def counted(x):
    return jnp.arange(len(x))


@pytest.mark.slow
def test_programs_that_were_not_used_for_long_are_dropped():
    """From memory, together with their parts, which JAX holds as long as their programs."""

    def double(x):
        return 2 * x

    x, gone = jnp.ones(3), weakref.ref(double)
    assert program(applied, (double,), (x,))(x).tolist() == [2, 2, 2]
    del double
    gc.collect()
    assert gone() is not None
    for number in range(programs.MOST_PROGRAMS):
        program(applied, (functools.partial(jnp.add, number),), (x,))
    gc.collect()
    assert gone() is None


def test_settings_of_jax_are_told_apart():
    x = jnp.ones(3, jnp.float32)

    def dtype():
        return program(counted, (), (x,))(x).dtype

    assert dtype() == jnp.int32
    with jax.enable_x64(True):
        assert dtype() == jnp.int64
    assert dtype() == jnp.int32
