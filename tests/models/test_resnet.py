import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

from resjax.config import default_config
from resjax.models.blocks import Block
from resjax.models.build import build_model, named_model
from resjax.models.shortcuts import SHORTCUTS
from resjax.models.summary import count_parameters
from resjax.models.trace import variable_shapes
from resjax.training.state import create_state
from tests.drawn import normal
from tests.models.compiled import quick


def built(depth, shortcut, **keys):
    config = default_config()
    config.model.update({"depth": depth, "shortcut": shortcut} | keys)
    return build_model(config, 10)


def initialised(depth, shortcut, **keys):
    model = built(depth, shortcut, width=4, **keys)
    state = create_state(model, optax.identity(), 3, (8, 8, 1))
    return model, {"params": state.params, "batch_stats": state.batch_stats}


def leaves(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


@pytest.mark.parametrize("n", [1, 2, 3, 9, 18, 200])
def test_parameters_of_the_cifar_family_equal_the_closed_form(n):
    """Each 3x3 convolution has 9 c_in c_out weights, each BatchNorm 2c; widths 16, 32, 64."""
    plain = 269_722 + 97_216 * (n - 3)
    arms = ("none", "identity", "projection", "projection_all")
    counts = {
        kind: count_parameters(variable_shapes(built(6 * n + 2, kind), (32, 32, 3))["params"])
        for kind in arms
    }
    assert counts["none"] == plain
    assert counts["identity"] == plain
    # 1x1 kernels 16 to 32 and 32 to 64, and their BatchNorms.
    assert counts["projection"] == plain + 2_752
    # One in each of the n blocks of a stage; only the first ones change the width.
    squares = n * 16**2 + (n - 1) * (32**2 + 64**2) + 16 * 32 + 32 * 64
    assert counts["projection_all"] == plain + squares + 2 * n * (16 + 32 + 64)


@pytest.mark.slow
def test_layers_that_arms_share_start_bit_equal():
    values = {kind: leaves(initialised(14, kind)[1]["params"]) for kind in SHORTCUTS}
    assert values["none"].keys() == values["identity"].keys()
    for kind in SHORTCUTS:
        for path, value in values["none"].items():
            np.testing.assert_array_equal(value, values[kind][path], err_msg=f"{kind} {path}")


def test_initial_kernels_have_the_variance_of_he():
    kernel = initialised(8, "none")[1]["params"]["stage3"]["first"]["conv2"]["kernel"]
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 16)), rel=0.05)


def test_a_stage_is_its_first_block_and_the_stacked_rest():
    model = built(20, "projection_all")
    stage = variable_shapes(model, (32, 32, 3))["params"]["stage2"]
    assert stage["first"]["conv1"]["kernel"].shape == (3, 3, 16, 32)
    assert stage["rest"]["conv1"]["kernel"].shape == (2, 3, 3, 32, 32)
    assert stage["rest"]["shortcut"]["projection"]["kernel"].shape == (2, 1, 1, 32, 32)


@pytest.mark.slow
@pytest.mark.parametrize("shortcut", ["projection", "dropout"])
def test_unrolled_equals_scanned(shortcut):
    """Logits, statistics and gradients, with the same random masks, in float64."""
    with jax.enable_x64(True):
        images = normal(1, (6, 8, 8, 1), jnp.float64)
        results = []
        for unroll in ("1", "all"):
            keys = {"unroll": unroll, "dtype": "float64", "stochastic_depth": 0.2}
            model, variables = initialised(20, shortcut, **keys)

            def loss(params, model=model, variables=variables):
                logits, new = model.apply(
                    variables | {"params": params},
                    images,
                    train=True,
                    mutable=["batch_stats"],
                    rngs={"dropout": jax.random.key(5)},
                )
                return jnp.square(logits).sum(), new

            results.append(quick(jax.value_and_grad(loss, has_aux=True))(variables["params"]))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-9, 1e-9), *results)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("zeroed", ["whole", "norm2"])
def test_zeroed_branch_is_the_identity_with_a_shortcut_and_constant_without(train, zeroed):
    """He et al. 2015, section 3.1: if identity is optimal, it is easy to drive F to zero."""
    x = jax.nn.relu(normal(0, (4, 6, 6, 4)))
    for shortcut, expected in (("identity", x), ("projection", x), ("none", jnp.zeros_like(x))):
        model = built(8, shortcut, width=4)
        block = Block(model.spec.branch(0, False, None), model.parts)
        variables = block.init(jax.random.key(1), x, False)
        params = variables["params"]
        if zeroed == "whole":
            variables["params"] = jax.tree.map(jnp.zeros_like, params)
        else:
            params["norm2"]["scale"] = jnp.zeros_like(params["norm2"]["scale"])
        output, _ = block.apply(variables, x, train, mutable=["batch_stats"])
        np.testing.assert_array_equal(output, expected)


def test_plain_net_with_a_zeroed_block_ignores_its_input():
    images = normal(0, (5, 8, 8, 1))
    for shortcut, constant in (("none", True), ("identity", False)):
        model, variables = initialised(20, shortcut)
        params = variables["params"]["stage2"]["rest"]["norm2"]
        params["scale"] = params["scale"].at[1].set(0)
        logits = quick(lambda v, model=model: model.apply(v, images, train=False))(variables)
        assert (float(jnp.ptp(logits, axis=0).max()) < 1e-5) is constant  # or else about 1


def test_logits_have_float32_whatever_the_computation():
    model, variables = initialised(8, "identity", dtype="bfloat16")
    logits, new = quick(
        lambda v: model.apply(v, jnp.ones((2, 8, 8, 1)), train=True, mutable=["batch_stats"])
    )(variables)
    kinds = {leaf.dtype for leaf in jax.tree.leaves((logits, variables, new))}
    assert kinds == {jnp.dtype("float32")}


@pytest.mark.parametrize(("shape", "message"), [
    ((64, 64, 3), r"images of shape \(64, 64, 3\) are not \[N, H, W, C\]; give a single one as"),
    ((2, 1, 64, 64, 3), r"images of shape \(2, 1, 64, 64, 3\) are not \[N, H, W, C\]"),
    ((2, 3, 64, 64), r"look like \[N, C, H, W\]; give \[N, H, W, C\], such as images\.transpose"),
    ((2, 16, 64, 3), r"images of 16x64 are too small for strides of 32 in all"),
])  # fmt: skip
def test_images_of_other_axes_are_refused_for_what_they_are(shape, message):
    init = functools.partial(named_model("resnet18").init, train=False)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(init, jax.random.key(0), jnp.ones(shape))


def test_logits_and_their_gradients_are_products_of_whole_float32_on_accelerators():
    """By default a TPU rounds the factors to bfloat16, and a GPU to 10 bits."""
    model = built(8, "identity", width=4, dtype="bfloat16")
    shapes = variable_shapes(model, (8, 8, 1))
    images = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)

    def slope(variables, images):
        def loss(variables):
            return jnp.square(model.apply(variables, images, train=False)).sum()

        return jax.grad(loss)(variables)

    for platform in ("tpu", "cuda"):
        program = export.export(jax.jit(slope), platforms=[platform])(shapes, images).mlir_module()
        products = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
        assert len(products) == 3
        assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)


@pytest.mark.slow
def test_every_block_is_computed_again_in_a_stage_of_two():
    """XLA would merge what is computed again with what was computed before."""
    counts = []
    for remat in (False, True):
        model = built(14, "identity", conv="xla", remat=remat)
        shapes = variable_shapes(model, (8, 8, 1))

        def loss(params, images, model=model, shapes=shapes):
            variables = {**jax.tree.map(jnp.ones_like, shapes), "params": params}
            return model.apply(variables, images, train=True, mutable=["batch_stats"])[0].sum()

        images = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
        program = jax.jit(jax.grad(loss)).lower(shapes["params"], images).compile()
        counts.append(program.as_text().count(" convolution("))
    assert counts[1] >= counts[0] + 6
