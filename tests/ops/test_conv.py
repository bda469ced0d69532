import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resjax.ops import conv as ops
from resjax.ops.conv import conv
from resjax.ops.forms import CANONICAL, NATIVE, PATCHES, STOCK, Geometry
from resjax.ops.platform import traced_for, tracing_for_runs
from tests.rounding import assert_equal_to_rounding

SHAPES = [
    # image, channels in and out, kernel, stride, groups: of the nets, and awkward ones
    ((32, 32), 16, 16, (3, 3), 1, 1),
    ((16, 16), 16, 32, (3, 3), 2, 1),
    ((2, 2), 64, 64, (3, 3), 1, 1),
    ((1, 1), 9, 5, (3, 3), 1, 1),
    ((24, 24), 3, 20, (7, 7), 2, 1),
    ((6, 6), 64, 24, (1, 1), 1, 1),
    ((7, 9), 6, 33, (1, 1), 2, 1),
    ((9, 8), 8, 12, (3, 3), 2, 4),
    ((8, 8), 6, 6, (3, 3), 1, 6),
    ((5, 11), 3, 2, (2, 4), 3, 1),
]


def draw(shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def operands(image, inputs, outputs, size, groups, batch=3, dtype=jnp.float32):
    x = draw((batch, *image, inputs), 1, dtype)
    return x, draw((*size, inputs // groups, outputs), 2, dtype)


def distance(ours, theirs):
    """The largest difference relative to the largest value."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30)


def products(implementation="auto", stride=1, groups=1):
    """A function of x, kernel and cotangent: the convolution and both of its gradients."""

    def function(x, kernel, cotangent):
        y, pullback = jax.vjp(lambda x, w: conv(x, w, stride, groups, implementation), x, kernel)
        return y, *pullback(cotangent)

    return function


def is_the_convolution_of_xla(image, inputs, outputs, size, stride, groups, batch=3):
    """In float32 and, since a term that is missing may be small, in float64."""
    geometry = Geometry(image, size, stride, groups)
    ours, theirs = (products(name, stride, groups) for name in ("auto", "xla"))
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            x, kernel = operands(image, inputs, outputs, size, groups, batch, dtype)
            cotangent = draw((batch, *geometry.output, outputs), 3, dtype)
            assert_equal_to_rounding(ours(x, kernel, cotangent), theirs, x, kernel, cotangent)


@pytest.mark.parametrize(
    ("image", "inputs", "outputs", "size", "stride", "groups"),
    [
        shape if number in (1, 3, 7) else pytest.param(*shape, marks=pytest.mark.slow)
        for number, shape in enumerate(SHAPES)
    ],
)
def test_it_equals_the_convolution_of_xla_forward_and_backward(
    image, inputs, outputs, size, stride, groups
):
    is_the_convolution_of_xla(image, inputs, outputs, size, stride, groups)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    image=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    channels=st.tuples(st.integers(1, 9), st.integers(1, 35)),
    stride=st.integers(1, 3),
    groups=st.integers(1, 3),
    batch=st.integers(1, 5),
)
def test_it_does_so_for_any_shape(image, size, channels, stride, groups, batch):
    inputs, outputs = (groups * count for count in channels)
    if min(Geometry(image, size, stride, groups).output) < 1:
        with pytest.raises(ValueError, match="smaller than the kernel"):
            conv(*operands(image, inputs, outputs, size, groups, batch), stride, groups)
        return
    is_the_convolution_of_xla(image, inputs, outputs, size, stride, groups, batch)


@given(
    sides=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    size=st.sampled_from([(3, 3), (7, 7), (1, 5), (9, 3)]),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 3)),
)
@settings(deadline=None, max_examples=20)
def test_on_a_gpu_blocks_of_the_pixels_of_an_image_are_convolved_at_stride_2(sides, size, channels):
    image = tuple(2 * side for side in sides)
    x, kernel = operands(image, *channels, size, 1)
    cotangent = draw((3, *sides, channels[1]), 3)
    with traced_for("gpu"):
        ours = jax.jit(products(stride=2))(x, kernel, cotangent)
        traced = jax.make_jaxpr(lambda x: conv(x, kernel, 2))(x)
    [own] = (eqn for eqn in traced.eqns if eqn.primitive.name == "conv_general_dilated")
    assert own.params["window_strides"] == (1, 1)
    assert own.invars[0].aval.shape[-1] % 8 == 0
    assert_equal_to_rounding(ours, products("xla", 2), x, kernel, cotangent)


@pytest.mark.parametrize(
    ("image", "inputs", "size", "stride"),
    [((8, 8), 5, 7, 2), ((7, 8), 3, 7, 2), ((8, 8), 3, 1, 2), ((8, 8), 3, 3, 1)],
    ids=["many channels", "an odd side", "1x1", "stride 1"],
)
def test_on_a_gpu_other_convolutions_are_what_they_were(image, inputs, size, stride):
    x, kernel = operands(image, inputs, 4, (size, size), 1)
    with traced_for("gpu"):
        ours, theirs = (
            str(jax.make_jaxpr(lambda x, name=name: conv(x, kernel, stride, 1, name))(x))
            for name in ("auto", "xla")
        )
    assert ours == theirs


def test_the_stock_convolution_is_the_sum_that_the_docstring_says():
    x, kernel = operands((5, 6), 2, 3, (3, 3), 1)

    def written_out(x, kernel):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        y = np.zeros((3, 3, 3, 3))
        for i in range(3):
            for j in range(3):
                window = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
                y[:, i, j] = np.tensordot(window, kernel, 3)
        return y

    for implementation in ("auto", "xla"):
        ours = conv(x, kernel, 2, implementation=implementation)
        assert_equal_to_rounding(ours, written_out, x, kernel)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "form", [NATIVE, CANONICAL, PATCHES], ids=["native", "canonical", "patches"]
)
@pytest.mark.parametrize(("image", "inputs", "outputs", "size", "stride", "groups"), SHAPES)
def test_every_form_computes_the_same_products(
    form, image, inputs, outputs, size, stride, groups, dtype
):
    if groups > 1 and form is not NATIVE:
        pytest.skip("a form for groups = 1")
    geometry = Geometry(image, size, stride, groups)
    with jax.enable_x64(dtype == "float64"):
        x, kernel = operands(image, inputs, outputs, size, groups, dtype=dtype)
        y = draw((3, *geometry.output, outputs), 4, dtype)
        for name, a, b in (
            ("forward", x, kernel), ("input_gradient", y, kernel), ("kernel_gradient", x, y),
        ):  # fmt: skip
            ours, theirs = (
                functools.partial(getattr(each, name), geometry=geometry) for each in (form, STOCK)
            )
            assert_equal_to_rounding(ours(a, b), theirs, a, b)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_it_is_the_same_inside_a_loop():
    x, kernel = operands((6, 6), 8, 8, (3, 3), 1, dtype=jnp.float64)
    kernels = jnp.stack([kernel, 2 * kernel, -kernel])

    def loop(x, kernels):
        return jax.lax.scan(lambda x, w: (jnp.tanh(conv(x, w)), None), x, kernels)[0]

    def line(x, kernels):
        for w in kernels:
            x = jnp.tanh(conv(x, w, implementation="xla"))
        return x

    def values(function):
        y, pullback = jax.vjp(function, x, kernels)
        return y, *pullback(draw(y.shape, 3, y.dtype))

    for ours, theirs in zip(values(loop), values(line), strict=True):
        assert distance(ours, theirs) < 1e-9


def test_half_precision_is_computed_in_float32_and_rounded_once():
    x, kernel = operands((8, 8), 16, 16, (3, 3), 1, dtype=jnp.bfloat16)
    exact = conv(x.astype(jnp.float32), kernel.astype(jnp.float32))
    y = conv(x, kernel)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))


@pytest.mark.slow
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 2)])
def test_both_modes_and_second_derivatives_are_those_of_xla(stride, groups):
    x, kernel = operands((5, 6), 4, 6, (3, 3), groups, dtype=jnp.float64)

    def derivatives(implementation):
        def function(x, kernel):
            return jnp.sin(conv(x, kernel, stride, groups, implementation))

        def gradient(x, kernel):
            return jax.grad(lambda x, w: function(x, w).sum(), (0, 1))(x, kernel)

        tangent = jax.jvp(function, (x, kernel), (x**2, kernel + 1))[1]
        forward_over_reverse = jax.jvp(gradient, (x, kernel), (x**2, kernel + 1))[1]
        reverse_over_reverse = jax.grad(lambda x, w: sum(jnp.sum(g**2) for g in gradient(x, w)))
        return [tangent, *forward_over_reverse, reverse_over_reverse(x, kernel)]

    for ours, theirs in zip(derivatives("auto"), derivatives("xla"), strict=True):
        assert distance(ours, theirs) < 1e-10


@pytest.mark.slow
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 2)])
def test_vmap_is_one_convolution_after_the_other(axes):
    x, kernel = operands((5, 6), 4, 6, (3, 3), 2, dtype=jnp.float64)
    xs = jnp.stack([x, x + 1, -x]) if axes[0] == 0 else x
    kernels = jnp.stack([kernel, kernel + 1, -kernel], axes[1]) if axes[1] is not None else kernel

    def gradient(x, kernel):
        return jax.grad(lambda x, w: jnp.sum(conv(x, w, 2, 2) ** 2), (0, 1))(x, kernel)

    mapped = jax.vmap(gradient, axes)(xs, kernels)
    for i in range(3):
        one = gradient(
            xs if axes[0] is None else xs[i],
            kernels if axes[1] is None else jnp.moveaxis(kernels, axes[1], 0)[i],
        )
        for ours, theirs in zip(mapped, one, strict=True):
            assert distance(ours[i], theirs) < 1e-10


@pytest.fixture
def packs():
    """Programs are traced for several runs on a GPU."""
    with traced_for("gpu"), tracing_for_runs():
        yield


def of_runs(channels, stride, number=5, dtype=jnp.float64):
    """Images, kernels and cotangents of several runs."""
    shapes = (4, 6, 8, channels[0]), (3, 3, *channels), (4, 6 // stride, 8 // stride, channels[1])
    return [draw((number, *shape), seed, dtype) for seed, shape in enumerate(shapes)]


@pytest.mark.usefixtures("double", "packs")
@pytest.mark.parametrize("channels", [(3, 16), (16, 40), (100, 70)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_on_a_gpu_runs_are_convolved_in_packs_as_one_after_the_other(channels, stride):
    operands = of_runs(channels, stride)
    mapped = jax.vmap(products(stride=stride))
    assert "feature_group_count=5" not in str(jax.make_jaxpr(mapped)(*operands))
    theirs = jax.vmap(products("xla", stride))(*operands)
    for own, other in zip(mapped(*operands), theirs, strict=True):
        assert distance(own, other) < 1e-12


@pytest.mark.usefixtures("packs")
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("operand", [0, 1, 2], ids=["images", "kernel", "cotangent"])
def test_on_a_gpu_what_is_not_finite_in_one_run_stays_there(operand, value):
    operands = of_runs((16, 20), 1, dtype=jnp.float32)
    mapped = jax.jit(jax.vmap(products()))
    whole = mapped(*operands)
    operands[operand] = operands[operand].at[2, 1, 1, 2, 0].set(value)
    lost = mapped(*operands)
    for own, before in zip(lost, whole, strict=True):
        others = np.delete(np.arange(5), 2)
        np.testing.assert_array_equal(own[others], before[others])
    assert sum(not np.isfinite(own[2]).all() for own in lost) == 2
    if operand == 0:  # of the outputs, those of its own image
        finite = np.isfinite(lost[0][2]).all((1, 2, 3))
        np.testing.assert_array_equal(finite, [True, False, True, True])


def test_a_result_does_not_depend_on_the_number_of_images_beside_it():
    x, kernel = operands((9, 9), 8, 24, (3, 3), 1, batch=40)
    whole = conv(x, kernel)
    for images in (1, 7):
        np.testing.assert_array_equal(conv(x[:images], kernel), whole[:images])


def test_no_images_have_no_output_and_a_gradient_of_zero():
    x, kernel = operands((6, 6), 4, 4, (3, 3), 1, batch=0)
    y, dx, dkernel = products()(x, kernel, draw((0, 6, 6, 4)))
    assert (y.shape, dx.shape) == ((0, 6, 6, 4), x.shape)
    np.testing.assert_array_equal(dkernel, 0)


def test_without_a_compiler_the_choice_falls_on_forms_of_xla(monkeypatch):
    monkeypatch.setattr(ops.native, "available", lambda: False)

    def form(image, size, groups=1):
        return ops._cpu_form("forward", Geometry(image, size, 1, groups), 8)

    assert form((32, 32), (3, 3)) is CANONICAL
    assert form((2, 2), (3, 3)) is PATCHES
    assert form((32, 32), (1, 1)) is PATCHES
    assert form((32, 32), (3, 3), groups=4) is STOCK


@pytest.mark.parametrize(
    ("x", "kernel", "keywords", "message"),
    [
        ((2, 8, 8), (3, 3, 4, 4), {}, r"are not \[N, H, W, C\]"),
        ((2, 8, 8, 4), (3, 3, 3, 4), {}, "do not fit each other with groups=1"),
        ((2, 8, 8, 4), (3, 3, 2, 3), {"groups": 2}, "do not fit each other with groups=2"),
        ((2, 8, 8, 4), (3, 3, 4, 4), {"stride": 0}, "stride=0 and groups=1 must be positive"),
        (
            (2, 8, 8, 4),
            (3, 3, 4, 4),
            {"implementation": "cudnn"},
            "'cudnn'; choose one of: auto, xla",
        ),
    ],
)
def test_what_does_not_fit_is_refused(x, kernel, keywords, message):
    with pytest.raises(ValueError, match=message):
        conv(jnp.zeros(x), jnp.zeros(kernel), **keywords)


def test_two_dtypes_are_refused():
    with pytest.raises(ValueError, match="cast one of them"):
        conv(jnp.zeros((1, 4, 4, 1)), jnp.zeros((3, 3, 1, 1), jnp.bfloat16))
