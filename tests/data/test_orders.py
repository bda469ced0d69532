from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resjax.data.orders import (
    EvaluationOrder,
    TrainingOrder,
    evaluation_batches,
    rows_of_host,
    training_order,
)
from resjax.training.parallel import Parallel

HOSTS = (1, 2, 3, 4, 8)
sizes = st.integers(1, 60)


def devices_of(hosts, each, turns=False):
    """Devices in the order of hosts, or one of each host in turn."""
    numbers = np.arange(hosts * each) % hosts if turns else np.repeat(np.arange(hosts), each)
    return tuple(SimpleNamespace(process_index=int(host)) for host in numbers)


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("hosts", HOSTS)
def test_rows_of_a_host_are_those_that_its_devices_are_given(
    hosts, micro_batches, turns, monkeypatch
):
    devices = devices_of(hosts, 2, turns)
    size = 2 * hosts * micro_batches * 5
    batch = np.arange(size).reshape(micro_batches, -1)
    for host in range(hosts):
        monkeypatch.setattr(jax, "process_index", lambda host=host: host)
        rows = rows_of_host(devices, host, size, micro_batches)
        shards = Parallel(devices, "pmap").shard(batch, 1)
        np.testing.assert_array_equal(rows.reshape(shards.shape), shards)


def test_a_batch_that_cannot_be_cut_is_refused_with_the_nearest():
    message = "a batch of 100 is not a multiple of 16, micro-batches times devices; nearest: 96"
    with pytest.raises(ValueError, match=message):
        rows_of_host(devices_of(4, 2), 0, 100, 2)


@given(
    seed=st.integers(0, 2**32 - 1), examples=sizes, each=st.integers(1, 9),
    hosts=st.sampled_from(HOSTS), epochs=st.integers(1, 3),
)  # fmt: skip
def test_hosts_together_see_every_example_once_an_epoch(seed, examples, each, hosts, epochs):
    batch = hosts * each
    order = TrainingOrder(seed, batch, examples)
    rows = [rows_of_host(devices_of(hosts, 1), host, batch) for host in range(hosts)]
    seen = []
    for step in range(-(-epochs * examples // batch)):
        for own in rows:
            epoch, example, valid = order.places(step, own)
            assert valid.all()
            seen += zip(epoch.tolist(), example.tolist(), strict=True)
    assert len(set(seen)) == len(seen)
    whole = {(epoch, example) for epoch in range(epochs) for example in range(examples)}
    assert whole <= set(seen)


@given(
    seed=st.integers(0, 2**32 - 1), step=st.integers(0, 10**8), batch=sizes,
    examples=st.integers(1, 200), data=st.data(),
)  # fmt: skip
def test_the_order_is_that_of_resident_data(seed, step, batch, examples, data):
    rows = np.array(data.draw(st.lists(st.integers(0, batch - 1), min_size=1)))
    epochs, found, _ = TrainingOrder(seed, batch, examples).places(step, rows)
    np.testing.assert_array_equal(found, training_order(seed, step, batch, examples)[rows])
    np.testing.assert_array_equal(epochs, [(step * batch + r) // examples for r in rows.tolist()])


@given(examples=st.integers(1, 200), each=st.integers(1, 40), hosts=st.sampled_from(HOSTS))
def test_hosts_together_evaluate_every_example_once(examples, each, hosts):
    batch = hosts * each
    order = EvaluationOrder(batch, examples)
    rows = [rows_of_host(devices_of(hosts, 1), host, batch) for host in range(hosts)]
    for step, (index, valid) in enumerate(evaluation_batches(examples, batch)):
        places = [order.places(step, own) for own in rows]
        np.testing.assert_array_equal(np.concatenate([place[1] for place in places]), index)
        np.testing.assert_array_equal(np.concatenate([place[2] for place in places]), valid)
    assert step + 1 == order.steps
