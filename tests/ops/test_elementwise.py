"""Elementwise work in few calls is the same function."""

import collections
import functools
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resjax.config import default_config
from resjax.models.build import named_model
from resjax.ops import native, tape
from resjax.ops.conv import conv
from resjax.ops.elementwise import in_few_calls
from resjax.training.benchmark import compile_training
from resjax.training.plan import make_plan
from tests.models.compiled import quick

DRAW = np.random.default_rng(0).normal

UNARY = {
    "relu": lambda a: jnp.maximum(a, 0),
    "negative": lambda a: -a,
    "absolute": jnp.abs,
    "square": jnp.square,
    "root": lambda a: jnp.sqrt(jnp.abs(a) + 0.5),
    "reciprocal root": lambda a: jax.lax.rsqrt(jnp.abs(a) + 0.5),
    "exponential": lambda a: jnp.exp(-jnp.abs(a)),  # no operation of the tape
    "strided": lambda a: jnp.repeat(a[:, ::2], 2, 1)[:, : a.shape[1]],
    "padded": lambda a: jnp.pad(a[:, 1:], ((0, 0), (1, 0), (0, 0))),
    "reshaped": lambda a: a.reshape(-1, a.shape[-1])[::-1].reshape(a.shape),
    "mean": lambda a: a - a.mean((0, 1)),
    "channel": lambda a: a * a[0, 0],
    "scanned": lambda a: jax.lax.scan(lambda c, x: (c + x, c * x), a[0], a, unroll=len(a))[1],
    "looped": lambda a: jax.lax.scan(lambda c, x: (c + x, c * x), a[0], a)[1],
    "chosen": lambda a: jax.lax.cond(a[0, 0, 0] > 0, lambda a: 2 * a, lambda a: a / 3, a),
    "called": jax.jit(lambda a: a * 2 + 1),
}

BINARY = {
    "sum": jnp.add,
    "difference": jnp.subtract,
    "product": jnp.multiply,
    "quotient": lambda a, b: a / (jnp.abs(b) + 1),
    "larger": jnp.maximum,
    "smaller": jnp.minimum,
    "where": lambda a, b: jnp.where((a > b) & (b <= 1) | ~(a != 0), a, 3.0),
    "number": lambda a, b: (a >= b).astype(a.dtype) + (a == b) + (a < b) * b,
    "stacked": lambda a, b: jnp.stack([a, b]).sum(0),
    "scanned together": lambda a, b: jax.lax.scan(
        lambda c, xy: (c * 0.5 + xy[0], jnp.maximum(c, xy[1])),
        a[-1],
        (a, b),
        unroll=9,
        reverse=True,
    )[1],
}


@st.composite
def programs(draw):
    """Functions of two arrays, each step of which is of results of those before."""
    steps = []
    for number in range(2, draw(st.integers(3, 9))):
        of = [draw(st.integers(0, number - 1)) for _ in range(2)]
        if draw(st.booleans()):
            steps.append((UNARY[draw(st.sampled_from(sorted(UNARY)))], of[:1]))
        else:
            steps.append((BINARY[draw(st.sampled_from(sorted(BINARY)))], of))
    results = draw(st.lists(st.integers(0, len(steps) + 1), min_size=1, max_size=3))

    def run(a, b):
        values = [a, b]
        for function, of in steps:
            values.append(function(*(values[number] for number in of)))
        return [values[number] for number in [*results, len(steps) + 1]]

    return run


@pytest.mark.slow
@hypothesis.settings(max_examples=40)
@hypothesis.given(programs(), st.tuples(*[st.integers(1, 5)] * 2, st.integers(1, 40)))
def test_it_computes_the_same_values_and_gradients(program, shape):
    with jax.enable_x64(True):
        a, b = (jnp.asarray(DRAW(size=shape)) for _ in range(2))

        def slope(a, b):
            return jax.grad(lambda a, b: sum(jnp.sum(jnp.sin(y)) for y in program(a, b)), (0, 1))(
                a, b
            )

        for function in (program, slope):
            ours = jax.jit(in_few_calls(functools.partial(function)))(a, b)
            for own, other in zip(ours, quick(function)(a, b), strict=True):
                np.testing.assert_allclose(own, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 5, 7, 64), (2, 33, 33, 5), (1, 1, 1, 5000)], ids=str)
def test_what_a_network_is_made_of_is_exact(shape, dtype):
    """Nothing of it is summed, so that only the contraction of products and sums may differ."""
    with jax.enable_x64(dtype == "float64"):
        x, y = (jnp.asarray(DRAW(size=shape), dtype) for _ in range(2))
        mean, factor, bias = (jnp.asarray(DRAW(size=shape[-1:]), dtype) for _ in range(3))

        def normalised(x, y, mean, factor, bias):
            z = (x - mean) * factor + bias
            return jax.nn.relu(z), jax.nn.relu(z + y), z + y > 0, jnp.where(z > 0, y, 0)

        arguments = (x, y, mean, factor, bias)
        ours = jax.jit(in_few_calls(functools.partial(normalised)))(*arguments)
        x, y, *rest = (np.asarray(each, np.float64) for each in arguments)
        z = (x - rest[0]) * rest[1] + rest[2]
        exact = (np.maximum(z, 0), np.maximum(z + y, 0), z + y > 0, np.where(z > 0, y, 0))
        # Three roundings of numbers that are not larger than this, with a margin of ten.
        bound = 10 * 3 * float(jnp.finfo(dtype).eps) * (np.abs(x) + np.abs(z) + np.abs(y)).max()
        certain = (np.abs(z) > bound) & (np.abs(z + y) > bound)  # of their signs
        assert certain.mean() > 0.2
        for own, other in zip(ours, exact, strict=True):
            own = np.asarray(own, np.float64)
            np.testing.assert_allclose(own[certain], other[certain], rtol=0, atol=bound)


def test_other_dtypes_are_left_to_xla():
    x, y = (jnp.asarray(DRAW(size=(4, 40)), jnp.bfloat16) for _ in range(2))

    def mixed(x, y):
        return (x + y) * jnp.arange(40), x > y, jnp.where(x > 0, y, 1).astype(jnp.float32) * 2

    ours = jax.jit(in_few_calls(functools.partial(mixed)))(x, y)
    for own, other in zip(ours, jax.jit(mixed)(x, y), strict=True):
        assert own.dtype == other.dtype
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("place", [0, 1, 511, 512, 700])
def test_what_is_not_a_number_stays_so(place):
    x = jnp.zeros(701).at[place].set(jnp.nan)

    def several(x):
        return jnp.maximum(x, 0), jnp.maximum(0, x), jnp.minimum(x, 0), jnp.abs(x), x > 0

    *numbers, positive = jax.jit(in_few_calls(functools.partial(several)))(x)
    for own in numbers:
        np.testing.assert_array_equal(np.isnan(own), np.arange(701) == place)
    assert not positive.any()


def test_arguments_that_are_not_given_away_are_kept():
    x = jnp.arange(8.0)

    def moved(x, y):
        return x + y, x * y

    program = jax.jit(in_few_calls(moved, donate_argnums=(0,)))
    results = program(x, 2 * x)
    np.testing.assert_array_equal(results[0], 3 * np.arange(8.0))
    np.testing.assert_array_equal(x, np.arange(8.0))


def test_a_scan_of_nothing_returns_what_it_began_with():
    def scanned(start, rows):
        return jax.lax.scan(lambda carry, row: (carry + row, carry * row), start, rows)

    last, products = jax.jit(in_few_calls(scanned))(jnp.ones(3), jnp.zeros((0, 3)))
    np.testing.assert_array_equal(last, jnp.ones(3))
    assert products.shape == (0, 3)


@pytest.mark.slow
def test_convolutions_that_are_mapped_are_the_same_with_their_gradients():
    """Their operands are reshaped with their axes permuted."""
    with jax.enable_x64(True):
        x, kernel = jnp.asarray(DRAW(size=(3, 2, 6, 6, 2))), jnp.asarray(DRAW(size=(3, 3, 3, 2, 4)))

        def loss(x, kernel):
            return jnp.sum(jnp.sin(jnp.maximum(conv(2 * x, kernel, 2, 1, "xla"), 0) * 3))

        def slopes(x, kernel):
            return jax.vmap(jax.value_and_grad(loss, (0, 1)))(x, kernel)

        ours = jax.tree.leaves(jax.jit(in_few_calls(slopes))(x, kernel))
        for own, other in zip(ours, jax.tree.leaves(slopes(x, kernel)), strict=True):
            np.testing.assert_allclose(own, other, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_every_process_makes_the_same_program():
    """Several hosts run one, and later processes find it in the cache."""
    script = (
        "from tests.ops.test_elementwise import compiled_step; import hashlib;"
        "print(hashlib.sha256(compiled_step(depth=8, shortcut='projection').encode()).hexdigest())"
    )
    said = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert said[0].stdout == said[1].stdout


def custom_calls(text):
    return collections.Counter(
        line.split('custom_call_target="')[1].split('"')[0]
        for line in text.splitlines()
        if "custom_call_target=" in line
    )


def compiled_step(**model):
    config = default_config()
    config.model.update({"width": 8, **model})
    config.train.batch_size = 64
    step, *_ = compile_training(make_plan(config))
    return step.as_text()


@pytest.mark.slow
@pytest.mark.skipif(not native.available(), reason="without a compiler XLA does the work")
@pytest.mark.parametrize("shortcut", ["none", "identity", "projection_all"])
def test_a_training_step_leaves_few_kernels_for_xla_whatever_the_depth(shortcut):
    fusions = {
        depth: compiled_step(depth=depth, shortcut=shortcut).count(" fusion(") for depth in (8, 32)
    }
    assert fusions[8] == fusions[32] < 60


@pytest.mark.slow
@pytest.mark.skipif(not native.available(), reason="without a compiler XLA does the work")
def test_blocks_that_are_computed_again_leave_few_kernels_for_xla():
    assert compiled_step(depth=14, remat=True, unroll="all").count(" fusion(") < 60


@pytest.mark.slow
@pytest.mark.skipif(not native.available(), reason="without a compiler XLA does the work")
def test_a_block_is_two_calls_forward_and_four_backward_beside_its_convolutions():
    calls = [custom_calls(compiled_step(depth=depth, shortcut="identity")) for depth in (14, 20)]
    more = calls[1] - calls[0]  # by one block a stage
    assert more["resjax_conv_forward"] == more["resjax_norm_moments"] == 3 * 2
    assert more[tape.TARGET] <= 3 * (2 * 1 + 2 * 2 + 2)  # and a copy of each kernel of a stack


@pytest.mark.slow
def test_a_network_is_the_same_function_in_evaluation():
    model = named_model("resnet18", classes=5)
    with jax.enable_x64(True):
        images = jnp.asarray(DRAW(size=(2, 33, 35, 3)))
        variables = jax.tree.map(
            lambda leaf: jnp.asarray(np.abs(DRAW(size=leaf.shape)) / 8),
            jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False)),
        )
        apply = functools.partial(model.clone(dtype=jnp.float64).apply, train=False)

        def logits(variables, images):
            return apply(variables, images)

        ours = jax.jit(in_few_calls(logits))(variables, images)
        np.testing.assert_allclose(ours, jax.jit(logits)(variables, images), rtol=1e-9)
