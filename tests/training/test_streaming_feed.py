import operator

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding

from resjax.data.streaming import HostBatches
from resjax.ops.platform import traced_for
from resjax.training.feeds import make_feed
from resjax.training.network import Network
from resjax.training.plan import make_plan
from resjax.training.state import create_state
from tests.data.pictures import encoded, picture


@pytest.fixture
def plan(tiny, tmp_path):
    """A plan with streamed images, which are mixed, in two micro-batches of four."""
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(6):
                data = encoded(picture(2 * number + label, 20, 30))
                (tmp_path / split / name / f"{number}.jpg").write_bytes(data)
    tiny.data.name, tiny.data.size, tiny.data.resize = f"folder:{tmp_path}", 8, 9
    tiny.data.standardise, tiny.data.mixup = "imagenet", 0.4
    tiny.train.batch_size, tiny.train.micro_batches, tiny.norm.examples = 8, 2, 4
    return make_plan(tiny)


@pytest.fixture
def feed(plan):
    feed = make_feed(plan)
    yield feed
    feed.close()


def test_the_batch_of_a_call_of_one_step_is_not_copied(feed, monkeypatch):
    read, following = [], HostBatches.__next__

    def kept(batches):
        read.append(following(batches))
        return read[-1]

    monkeypatch.setattr(HostBatches, "__next__", kept)
    with traced_for("cpu"):
        inputs = feed.inputs(range(3, 4), 1)
    assert inputs.images.shape == (1, 2, 4, 8, 8, 3)
    pairs = zip(jax.tree.leaves(inputs), jax.tree.leaves(read[0]._replace(valid=None)), strict=True)
    assert all(np.shares_memory(own, its) for own, its in pairs)


def test_a_call_of_several_steps_has_the_batches_of_each_in_turn(feed):
    call = feed.inputs(range(2, 4), 3)
    assert call.images.shape == (3, 2, 4, 8, 8, 3)
    for row, step in enumerate((2, 3)):
        alone = feed.inputs(range(step, step + 1), 1)
        own = jax.tree.map(operator.itemgetter(row), call)
        jax.tree.map(
            np.testing.assert_array_equal, own, jax.tree.map(operator.itemgetter(0), alone)
        )


@pytest.mark.slow
def test_an_accelerator_is_sent_a_batch_before_the_call_and_computes_the_same(plan, feed):
    def stepped(platform):
        state = create_state(plan.model, plan.optimizer, 0, plan.image_shape)
        network = Network(plan, plan.model, state, feed)
        with traced_for(platform):
            arguments = network.arguments(0, 1)
        return arguments[1], network.steps(state, *arguments)

    (there, expected), (sent, found) = stepped("cpu"), stepped("gpu")
    assert {type(leaf) for leaf in jax.tree.leaves(there)} == {np.ndarray}
    for leaf in jax.tree.leaves(sent):
        assert isinstance(leaf.sharding, NamedSharding)
        assert leaf.sharding.mesh == plan.parallel.mesh
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_who_stops_taking_batches_ends_what_reads_them(feed, monkeypatch):
    closed, close = [], HostBatches.close
    monkeypatch.setattr(HostBatches, "close", lambda self: closed.append(self) or close(self))
    batches = feed.training_batches(range(3))
    next(batches)
    assert not closed
    batches.close()
    assert len(closed) == 1
