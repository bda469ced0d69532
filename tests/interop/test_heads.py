"""Heads are found under the names that fine-tuning leaves, and projection heads are left out."""

import jax
import numpy as np
import pytest

from resjax.interop.importing import import_weights
from tests.interop.peers import ForCifar, of_timm, randomised, torch, torchvision


@pytest.fixture(scope="module")
def state():
    """Of ResNet-8 for CIFAR."""
    return randomised(ForCifar(1)).state_dict()


@pytest.fixture
def imported(tmp_path):
    """`imported(content)`: what is read of a file with it."""

    def read(content, choice=""):
        torch.save(content, tmp_path / "net.pth")
        return import_weights(tmp_path / "net.pth", choice=choice)

    return read


def renamed(state, body, head):
    """The state with a prefix of its body, and a module that is the head."""
    return {
        name.replace("linear.", f"{head}.") if "linear" in name else body + name: tensor
        for name, tensor in state.items()
    }


NAMES = [
    ("", "linear.1"),
    ("", "fc.2"),
    ("", "head"),
    ("backbone.", "head"),
    ("backbone.", "head.fc"),
    ("model.backbone.", "model.classifier"),
    ("module.encoder.", "module.fc.0"),
    ("backbone.", "backbone.fc"),
]


@pytest.mark.parametrize(("body", "head"), NAMES)
def test_a_dense_layer_is_the_head_wherever_it_is(body, head, state, imported):
    found = imported({"state_dict": renamed(state, body, head)})
    ours = found.weights.variables["params"]["head"]
    assert np.array_equal(ours["kernel"], state["linear.weight"].numpy().T)
    assert np.array_equal(ours["bias"], state["linear.bias"].numpy())
    assert any("was taken as the head" in note for note in found.notes)
    assert not any("left out: 'head" in note for note in found.notes)


@pytest.mark.slow
def test_a_fine_tuned_network_of_torchvision_computes_what_it_did(imported):
    net = torchvision.models.resnet18()
    net.fc = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(512, 3))
    net = randomised(net)
    weights = imported(net.state_dict()).weights
    images = np.random.default_rng(0).normal(size=(2, 33, 32, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = net(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    ours = jax.jit(lambda v, x: weights.model.apply(v, x, train=False))(weights.variables, images)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_dense_layer_takes_the_place_of_a_convolution(imported):
    state = of_timm("resnetv2_18", num_classes=3).state_dict()
    theirs = state.pop("head.fc.weight")[:, :, 0, 0].clone()
    bias = state.pop("head.fc.bias")
    found = imported(state | {"head.weight": theirs, "head.bias": bias})
    assert np.array_equal(found.weights.variables["params"]["head"]["kernel"], theirs.numpy().T)


def layers(*shapes):
    return {f"{n}.weight": torch.ones(shape) for n, shape in enumerate(shapes)}


def under(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


PROJECTIONS = {
    "two layers": layers((64, 64), (8, 64)),
    "normalised": layers((64,), (10, 64)),
    "another width": layers((10, 32)),
    "several heads": {"a.weight": torch.ones(10, 64), "b.weight": torch.ones(5, 64)},
}


@pytest.mark.parametrize("kind", PROJECTIONS)
@pytest.mark.parametrize(
    ("body", "head"), [("", "fc."), ("encoder_q.", "encoder_q.fc."), ("backbone.", "head.")]
)
def test_other_heads_are_left_out_and_told(kind, body, head, state, imported):
    bare = {name: tensor for name, tensor in state.items() if "linear" not in name}
    found = imported(under(body, bare) | under(head, PROJECTIONS[kind]))
    assert found.weights.about.class_names == ()
    assert any("left out, as projection heads are" in note for note in found.notes)


@pytest.mark.parametrize("choice", ["encoder_q", "encoder_k"])
def test_of_two_encoders_with_projection_heads_the_chosen_is_imported(choice, state, imported):
    bare = {name: tensor for name, tensor in state.items() if "linear" not in name}
    whole = bare | under("fc.", layers((64, 64), (8, 64)))
    both = under("module.encoder_q.", whole) | under("module.encoder_k.", whole)
    found = imported({"state_dict": both | {"module.queue": torch.ones(2)}}, choice)
    assert found.weights.about.class_names == ()


def test_a_head_beside_two_networks_is_taken_for_neither(state, imported):
    bare = {name: tensor for name, tensor in state.items() if "linear" not in name}
    both = under("student.", bare) | under("teacher.", bare) | {"head.weight": torch.ones(10, 64)}
    found = imported(both)
    assert found.weights.about.class_names == ()
    assert any("'head.weight'" in note for note in found.notes)
