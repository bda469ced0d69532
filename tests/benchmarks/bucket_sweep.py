"""Trains a sweep by many processes of two machines in one bucket, and kills some of them.

    python -m tests.benchmarks.bucket_sweep --runs=24 --processes=8 --kills=2

Every run must be trained once, but for those whose process was killed, which go on from what
landed; and none must be lost. The machines are scratch directories.
"""

import argparse
import collections
import os
import random
import signal
import tempfile
import time
from pathlib import Path

from resjax.buckets.mirror import Mirror
from resjax.buckets.store import Store
from resjax.config.addresses import Address
from resjax.runs import disk, rundir
from resjax.runs.scratch import make_scratch
from tests.buckets.servers import Simulated
from tests.durability.attempts import Attempts
from tests.durability.test_bucket import SOON
from tests.zygote import Zygote

KEYS = {"train.duration": "30 steps", "eval.every": "10 steps", "checkpoint.seconds": 0.5}


def swept(
    zygote: Zygote, simulated: Simulated, directory: Path, runs: int, processes: int, kills: int
) -> dict[str, list[str]]:
    """Trains a sweep so; returns the events of each run, as its times have them."""
    from concurrent.futures import ThreadPoolExecutor

    address = Address.of(simulated.address(directory.name))
    machines = [make_scratch(address, directory / f"machine{n}") for n in range(2)]
    attempt = Attempts(zygote, dict(os.environ))
    chance = random.Random(0)

    def work(number: int) -> tuple[int, list[dict]]:
        """One process; the first ones are killed in the middle of a training."""
        options = {"send": (signal.SIGKILL, "training", 10, 0.0)} if number < kills else {}
        seeds = list(range(runs))
        chance.shuffle(seeds)
        machine = machines[number % 2]
        return attempt(KEYS, machine, seeds=seeds, set=SOON, tell_every=0.1, **options)

    with ThreadPoolExecutor(processes) as pool:
        ended = list(pool.map(work, range(processes)))
    statuses = collections.Counter(status for status, _ in ended)
    assert statuses == {0: processes - kills, -signal.SIGKILL: kills}, ended
    Mirror(Store(address), directory / "landed").refresh()
    events = {}
    for seed in range(runs):
        run = directory / "landed" / str(seed)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--kind", choices=("s3", "gs"), default="s3")
    options = parser.parse_args()
    simulated = Simulated(options.kind)
    os.environ.update(simulated.environment)
    with Zygote() as zygote, tempfile.TemporaryDirectory() as name:
        began = time.monotonic()
        directory = Path(name, "sweep")
        directory.mkdir()
        sizes = options.runs, options.processes, options.kills
        events = swept(zygote, simulated, directory, *sizes)
        went_on = assert_trained_once(events, options.kills)
        requests = collections.Counter(method for method, _ in simulated.faults.seen)
        print(
            f"{options.runs} runs by {options.processes} processes on 2 machines, {options.kills} "
            f"killed: each done once, {went_on} of them begun twice; "
            f"{time.monotonic() - began:.0f} s, requests {dict(requests)}"
        )


if __name__ == "__main__":
    main()
