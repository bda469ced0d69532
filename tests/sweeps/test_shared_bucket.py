"""A sweep by many processes of several machines in one bucket, of which some are killed.

`python -m tests.benchmarks.bucket_sweep` does the same with more of them.
"""

import collections
import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from resjax.buckets.mirror import Mirror
from resjax.buckets.store import Store
from resjax.config.addresses import Address
from resjax.runs import disk, rundir
from resjax.runs.scratch import workplace
from tests.buckets.servers import Simulated
from tests.durability.attempts import Attempts
from tests.durability.test_kills_beside_a_bucket import SOON
from tests.zygote import Zygote

KEYS = {"train.duration": "30 steps", "eval.every": "10 steps", "checkpoint.seconds": 0.5}


def swept(
    zygote: Zygote, simulated: Simulated, directory: Path, runs: int, processes: int, kills: int
) -> dict[str, list[str]]:
    """Trains a sweep so; returns the events of each run, as its times have them."""
    address = Address.of(simulated.address(directory.name))
    machines = [workplace(address, directory / f"machine{n}") for n in range(2)]
    attempt = Attempts(zygote, dict(os.environ))
    chance = random.Random(0)

    def work(number: int) -> tuple[int, list[dict]]:
        """One process; the first ones are killed at an evaluation in the middle of a run."""
        options = {"send": (signal.SIGKILL, "evaluating", 10, 0.0)} if number < kills else {}
        seeds = list(range(runs))
        chance.shuffle(seeds)
        machine = machines[number % 2]
        return attempt(KEYS, machine, seeds=seeds, set=SOON, tell_every=0.1, **options)

    with ThreadPoolExecutor(processes) as pool:
        ended = list(pool.map(work, range(processes)))
    statuses = collections.Counter(status for status, _ in ended)
    assert statuses == {0: processes - kills, -signal.SIGKILL: kills}, ended
    store = Store(address)
    Mirror(store, directory / "uploaded").update(store.list())
    events = {}
    for seed in range(runs):
        run = directory / "uploaded" / str(seed)
        assert rundir.run_state(run) == rundir.DONE, run
        assert rundir.read_metrics(run)[-1]["step"] == 30
        notes = disk.read_lines(run / "timing.jsonl")
        events[run.name] = [note["event"] for note in notes]
    return events


def assert_trained_once(events: dict[str, list[str]], kills: int) -> int:
    """Makes sure of it; returns the number of runs that went on after a kill."""
    begun = collections.Counter(each.count("begun") for each in events.values())
    done = {each.count("done") for each in events.values()}
    assert done == {1}, events
    assert set(begun) <= {1, 2}, events
    assert begun[2] <= kills, events
    return begun[2]


@pytest.mark.slow
def test_every_run_of_a_bucket_is_trained_once_whoever_is_killed(zygote, one_bucket, tmp_path):
    events = swept(zygote, one_bucket, tmp_path, runs=4, processes=3, kills=1)
    assert_trained_once(events, kills=1)
