"""Several hosts and one bucket: the first one alone talks to it, and has the disk of the run."""

import os

import pytest

from resjax.buckets.mirror import Mirror
from resjax.buckets.store import Store
from resjax.config.addresses import Address
from resjax.runs import checkpoint, disk
from resjax.runs.rundir import read_metrics
from tests.ports import free_port
from tests.training.test_hosts import FLAGS

TRAIN = (
    "train", "--config=experiments/degradation.py", "--config.model.width=2",
    "--config.model.depth=8", "--config.eval.every=3 steps",
)  # fmt: skip


@pytest.mark.slow
def test_two_hosts_go_on_from_a_checkpoint_that_the_first_one_has_fetched(
    zygote, one_bucket, fresh, tmp_path
):
    address = Address.of(one_bucket.address(fresh))
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}

    def train(steps, scratch):
        ports = ("--processes=2", f"--coordinator=localhost:{free_port()}", "--connect-timeout=60")
        words = [*TRAIN, f"--config.train.duration={steps} steps", f"--workdir={address}", *ports]
        started = [
            zygote.start(
                "-m", "resjax", *words, f"--process={i}", f"--scratch={tmp_path / scratch}{i}",
                environment={**os.environ, "XLA_FLAGS": FLAGS, **(nowhere if i else {})},
            )
            for i in range(2)
        ]  # fmt: skip
        ended = [(*process.communicate(timeout=300), process.returncode) for process in started]
        assert [code for *_, code in ended] == [0, 0], ended
        store = Store(address)
        Mirror(store, tmp_path / "copy").update(store.list())
        return ended[0][1]

    train(3, "one")
    whole = tmp_path / "copy"
    assert not list(whole.glob("checkpoints/*/state/ocdbt.process_1"))
    assert not (tmp_path / "one1").exists()
    first = read_metrics(whole)
    _, facts = next(checkpoint.whole_checkpoints(whole, print))
    assert facts.step == 3
    # As if it had been interrupted, of a longer training.
    Store(address).delete(["result.json"])
    (whole / "result.json").unlink()
    assert "goes on from step 3" in train(3, "other")
    assert read_metrics(whole) == first
    assert disk.read_json(whole / "result.json")["steps"] == 3
