"""Forward passes, gradients and running statistics against an implementation in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resjax.config import default_config
from resjax.models.blocks import ORDERS, Block
from resjax.models.build import build_model
from resjax.models.shortcuts import SHORTCUTS
from resjax.models.trace import variable_shapes

torch = pytest.importorskip("torch", reason="the parity tests need torch==2.13.0")

from tests.drawn import normal  # noqa: E402
from tests.models.compiled import quick, scrambled  # noqa: E402
from tests.models.torch_net import TorchNet  # noqa: E402


def compare(settings, image_shape, norm=None, batch=3, dtype=jnp.float64, train=True):
    """Logits, gradients of parameters and images, and new statistics, to 1e-9."""
    config = default_config()
    config.model.update(settings | {"dtype": str(jnp.dtype(dtype)), "unroll": "1"})
    config.norm.update(norm or {})
    model = build_model(config, 7)
    images = normal(1, (batch, *image_shape), dtype)
    variables = scrambled(variable_shapes(model, image_shape))
    weights = normal(3, (batch, 7), dtype)

    def scalar(params, images):
        logits, new = model.apply(
            variables | {"params": params}, images, train=train, mutable=["batch_stats"]
        )
        return (logits * weights).sum(), (logits, new.get("batch_stats", {}))

    gradient = quick(jax.grad(scalar, argnums=(0, 1), has_aux=True))
    (by_params, by_images), (logits, stats) = gradient(variables["params"], images)

    net = TorchNet(variables, config.model, model.spec.stages, model.spec.strides)
    inputs = torch.tensor(np.asarray(images), requires_grad=True)
    expected = net(inputs.reshape(batch, -1) if settings["name"] == "mlp" else inputs, train)
    (expected * torch.tensor(np.asarray(weights))).sum().backward()

    def close(ours, theirs, what):
        scale = max(1.0, float(np.abs(theirs).max()))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9 * scale, err_msg=what)

    close(logits, expected.detach().numpy(), "logits")
    close(by_images, inputs.grad.numpy(), "gradient of the images")
    jax.tree_util.tree_map_with_path(
        lambda path, a, b: close(a, b, jax.tree_util.keystr(path)), by_params, net.gradients()
    )
    for path, (mean, var) in net.moved.items():
        names = [part for part in path if isinstance(part, str)]
        index = next((part for part in path if isinstance(part, int)), None)
        old, new = variables["batch_stats"], stats
        for name in names:
            old, new = old[name], new[name]
        for key, value in (("mean", mean), ("var", var)):
            before, after = (
                tree[key] if index is None else tree[key][index] for tree in (old, new)
            )
            close(after, 0.9 * before + 0.1 * value, f"{path} {key}")
    assert not train or config.norm.kind == "none" or net.moved


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


CIFAR = {"name": "cifar", "depth": 14, "width": 4}
IMAGENET = {"name": "imagenet", "width": 8}


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shortcut", ["none", "identity", "projection"])
def test_every_order(order, shortcut):
    compare(CIFAR | {"order": order, "shortcut": shortcut}, (9, 9, 3))


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_in_evaluation(order):
    compare(CIFAR | {"depth": 8, "order": order, "shortcut": "projection"}, (9, 9, 3), train=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "shortcut", [kind for kind in SHORTCUTS if kind not in ("none", "dropout")]
)
@pytest.mark.parametrize("order", ["post", pytest.param("preact", marks=pytest.mark.slow)])
def test_every_shortcut(shortcut, order):
    settings = {"shortcut": shortcut, "order": order, "shortcut_scale": 0.7, "gate_bias": -1.0}
    compare(CIFAR | settings, (9, 8, 3))


@pytest.mark.slow
def test_dropout_shortcut_in_evaluation():
    compare(CIFAR | {"shortcut": "dropout"}, (8, 8, 3), train=False)


@pytest.mark.parametrize(
    ("settings", "image_shape"),
    [
        (CIFAR | {"depth": 20, "block": "bottleneck"}, (8, 8, 1)),
        (CIFAR | {"depth": 20, "block": "bottleneck", "stride_in": "1x1"}, (9, 9, 1)),
        (CIFAR | {"depth": 11, "block": "single", "identity_pad": "both"}, (8, 9, 3)),
        ({"name": "wrn", "depth": 10, "width": 20, "order": "preact", "shortcut": "projection"},
         (8, 8, 3)),
        (IMAGENET | {"depth": 50, "shortcut": "projection"}, (37, 37, 3)),
        (IMAGENET | {"depth": 50, "shortcut": "projection", "stride_in": "1x1"}, (32, 32, 3)),
        (IMAGENET | {"depth": 50, "shortcut": "projection", "groups": 4, "bottleneck_width": 2.0},
         (33, 33, 3)),
        (IMAGENET | {"depth": 50, "shortcut": "avgpool_projection", "stem": "deep"}, (35, 35, 3)),
        ({"name": "mlp", "depth": 6, "width": 9}, (2, 2, 2)),
        ({"name": "mlp", "depth": 5, "width": 9, "block": "single", "shortcut": "none",
          "bias": "always"}, (2, 2, 2)),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)  # fmt: skip
@pytest.mark.slow
def test_every_family(settings, image_shape):
    compare(settings, image_shape, batch=5)


@pytest.mark.slow
def test_a_net_of_the_imagenet_family():
    compare(IMAGENET | {"depth": 18, "shortcut": "projection"}, (33, 32, 3))


@pytest.mark.slow
def test_without_normalisation_layers_have_a_bias():
    compare(CIFAR, (8, 8, 3), norm={"kind": "none"})


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("size", [7, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("block", "stride_in"), [("basic", "3x3"), ("bottleneck", "3x3"),
                                                  ("bottleneck", "1x1")])  # fmt: skip
def test_single_blocks(block, stride_in, size, train):
    """A strided block and its gradients, to 1e-9 of their size."""
    config = default_config()
    depth = 8 if block == "basic" else 11
    settings = {"depth": depth, "width": 8, "block": block, "stride_in": stride_in,
                "shortcut": "projection", "dtype": "float64"}  # fmt: skip
    config.model.update(settings)
    model = build_model(config, 7)
    module = Block(model.spec.branch(1, True, None), model.parts)
    x = normal(1, (4, size, size, 8))
    variables = scrambled(jax.eval_shape(lambda: module.init(jax.random.key(0), x, False)))
    shape = jax.eval_shape(lambda: module.apply(variables, x, False)).shape
    weights = normal(3, shape)

    def scalar(params, x):
        tree = variables | {"params": params}
        output, _ = module.apply(tree, x, train, mutable=["batch_stats"])
        return (output * weights).sum(), output

    gradient = quick(jax.grad(scalar, argnums=(0, 1), has_aux=True))
    (by_params, by_x), output = gradient(variables["params"], x)
    net = TorchNet(variables, config.model, (1,), (2,))
    inputs = torch.tensor(np.asarray(x), requires_grad=True)
    expected = net.block(
        net.params, net.stats, inputs.permute(0, 3, 1, 2), 2, train, False, ("block",)
    ).permute(0, 2, 3, 1)
    (expected * torch.tensor(np.asarray(weights))).sum().backward()
    pairs = [(output, expected.detach().numpy()), (by_x, inputs.grad.numpy())]
    pairs += zip(jax.tree.leaves(by_params), jax.tree.leaves(net.gradients()), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9 * np.abs(theirs).max())
