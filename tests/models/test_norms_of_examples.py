"""Normalisations of single examples: equal to those of other libraries, and at home everywhere."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resjax.cli.main import main
from resjax.config import ConfigError, default_config
from resjax.interop.exporting import named_tensors
from resjax.interop.folding import fold
from resjax.models.build import build_model, named_model
from resjax.models.norm import NORMS, FilterResponseNorm, GroupNorm
from resjax.models.trace import variable_shapes
from resjax.runs.loop import train_and_evaluate
from resjax.runs.weights import read_weights
from tests.drawn import normal
from tests.models.compiled import quick, scrambled

KINDS = ("group", "layer", "filter_response")

SHAPES = [(4, 12), (3, 5, 7, 12)]


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, 1e-9, 1e-9)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("groups", [1, 3, 12])
@pytest.mark.parametrize("shape", SHAPES)
def test_group_norm_is_that_of_flax(shape, groups):
    x, scale, bias = 3 * normal(0, shape) + 1, normal(1, (12,)), normal(2, (12,))
    variables = {"params": {"scale": scale, "bias": bias}}
    flax = nn.GroupNorm(groups, epsilon=1e-5, use_fast_variance=False)
    ours = GroupNorm(groups=groups, dtype=jnp.float64)
    for train in (True, False):
        close(ours.apply(variables, x, train), flax.apply(variables, x))


@pytest.mark.usefixtures("double")
def test_group_norm_is_that_of_torch():
    torch = pytest.importorskip("torch")
    x, scale, bias = 3 * normal(0, SHAPES[1]) + 1, normal(1, (12,)), normal(2, (12,))
    theirs = torch.nn.functional.group_norm(
        torch.from_numpy(np.array(x)).permute(0, 3, 1, 2), 3,
        torch.from_numpy(np.array(scale)), torch.from_numpy(np.array(bias)),
    )  # fmt: skip
    ours = GroupNorm(groups=3, dtype=jnp.float64).apply(
        {"params": {"scale": scale, "bias": bias}}, x, True
    )
    close(ours, theirs.permute(0, 2, 3, 1).numpy())


@pytest.mark.usefixtures("double")
def test_filter_response_norm_is_its_equation():
    x, scale, bias = 3 * normal(0, SHAPES[1]) + 1, normal(1, (12,)), normal(2, (12,))
    nu = np.mean(np.square(np.array(x)), (1, 2), keepdims=True)
    expected = np.array(scale) * np.array(x) / np.sqrt(nu + 1e-6) + np.array(bias)
    norm = FilterResponseNorm(epsilon=1e-6, dtype=jnp.float64)
    close(norm.apply({"params": {"scale": scale, "bias": bias}}, x, True), expected)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("scaled", "shifted"), [(True, False), (False, True)])
def test_a_kind_has_what_its_keys_say(kind, scaled, shifted):
    keys = default_config().norm
    keys.update({"groups": 3, "epsilon": 0.5, "use_scale": scaled, "use_bias": shifted})
    x, value = normal(0, SHAPES[1]), 2 + normal(1, (12,))
    variables = {"params": {"scale": value} if scaled else {"bias": value}}
    if kind == "filter_response":
        plain = x / np.sqrt(np.square(x).mean((1, 2), keepdims=True) + 0.5)
    else:
        groups = {"group": 3, "layer": 1}[kind]
        flax = nn.GroupNorm(groups, epsilon=0.5, use_fast_variance=False)
        plain = flax.apply({"params": {"scale": np.ones(12), "bias": np.zeros(12)}}, x)
    norm = NORMS[kind](keys, jnp.float64, None)()
    assert set(norm.init(jax.random.key(0), x, True)["params"]) == set(variables["params"])
    close(norm.apply(variables, x, True), plain * value if scaled else plain + value)


@pytest.mark.parametrize("kind", KINDS)
def test_moments_are_in_float32_and_the_output_in_the_dtype(kind):
    keys = default_config().norm
    keys.groups = 3
    x = (100 + normal(0, SHAPES[1], jnp.float32)).astype(jnp.bfloat16)
    exact, ours = (NORMS[kind](keys, dtype, None)() for dtype in (jnp.float32, jnp.bfloat16))
    variables = exact.init(jax.random.key(0), x, True)
    assert {leaf.dtype for leaf in jax.tree.leaves(ours.init(jax.random.key(0), x, True))} == {
        jnp.dtype(jnp.float32)
    }
    y = ours.apply(variables, x, True)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, exact.apply(variables, x, True).astype(jnp.bfloat16))


def small(kind, **keys):
    config = default_config()
    config.model.update({"depth": 8, "width": 8} | keys)
    config.norm.kind = kind
    return config


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("kind", KINDS)
def test_an_example_does_not_depend_on_the_others_and_nothing_is_kept(kind):
    model = build_model(small(kind, dtype="float64"), 10)
    variables = scrambled(variable_shapes(model, (8, 8, 1)))
    assert set(variables) == {"params"}
    images = normal(0, (4, 8, 8, 1))
    logits = quick(lambda v, x: model.apply(v, x, train=True))
    close(logits(variables, images)[:1], logits(variables, images[:1]))


@pytest.mark.parametrize("norm", [GroupNorm, FilterResponseNorm])
def test_a_scale_may_start_at_zero(norm):
    x = jnp.ones((2, 3, 3, 32))
    for start in (True, False):
        params = norm(zero_scale=start).init(jax.random.key(0), x, True)["params"]
        assert (params["scale"] == 1 - start).all()
        assert (params["bias"] == 0).all()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"norm.kind": "group", "norm.groups": 3}, r"groups=3 does not divide the 8.*groups=1"),
        ({"norm.kind": "group", "norm.groups": 16}, r"groups=16 does not divide the 8.*groups=8"),
        (  # inner layers have 4, 9 and 18 channels, all others a multiple of 12
            {
                "norm.kind": "group",
                "norm.groups": 12,
                "model.block": "bottleneck",
                "model.depth": 11,
                "model.width": 12,
                "model.bottleneck_width": 0.375,
            },
            "groups=12 does not divide the 4 channels of a layer; set norm.groups=1",
        ),
        (
            {"norm.kind": "group", "norm.groups": 8, "model.stem": "deep"},
            "groups=8 does not divide the 4 channels of a layer; set norm.groups=4",
        ),
        ({"norm.kind": "filter_response", "model.name": "mlp"}, "dense layers have not; use layer"),
        ({"norm.kind": "instance"}, "choose one of: [^;]*$"),  # no norm.groups suits all widths
        ({"norm.kind": "gropu"}, "choose one of: batch, group, layer, filter_response, none"),
    ],
)
def test_what_makes_no_network_is_refused(keys, message):
    config = small("batch")
    config.update_from_flattened_dict(keys)
    with pytest.raises(ConfigError, match=message):
        build_model(config, 10)


@pytest.mark.slow
def test_every_kind_has_a_network_of_each_family():
    for kind in NORMS:
        for name in ("cifar-resnet20", "resnet50"):
            model = named_model(name)
            config = default_config()
            config.norm.kind = kind
            config.model.update({"name": "cifar" if "cifar" in name else "imagenet"})
            config.model.depth = 20 if "cifar" in name else 50
            config.model.shortcut = "projection"
            built = build_model(config, model.classes)
            shapes = variable_shapes(built, (32, 32, 3))
            assert bool(shapes.get("batch_stats")) == (kind == "batch")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_trains_is_probed_evaluated_and_not_folded(kind, tiny, tmp_path, capsys):
    tiny.norm.kind, tiny.norm.groups = kind, 2
    tiny.eval.probes, tiny.eval.probe_examples = "gradients,normalisation,branches", 20
    tiny.eval.statistics, tiny.eval.precise_batches = "precise", 2
    summary = train_and_evaluate(tiny, tmp_path / "run")
    assert 0 <= summary.train_error < 0.91
    assert main(["doctor", str(tmp_path)]) == 0
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    weights = read_weights(tmp_path / "run")
    with pytest.raises(ConfigError, match=f"norm.kind={kind}: there are no running statistics"):
        fold(weights)
    with pytest.raises(ConfigError):
        named_tensors(weights, "akamaster")
    capsys.readouterr()


def test_a_network_that_grows_needs_batch_norm_or_none(tiny):
    from resjax.training.plan import make_plan

    tiny.norm.kind, tiny.norm.groups, tiny.model.shortcut = "group", 2, "identity"
    tiny.model.depth, tiny.train.grow_from = 14, 8
    with pytest.raises(ConfigError, match=r"the identity with norm\.kind=batch or none"):
        make_plan(tiny)
