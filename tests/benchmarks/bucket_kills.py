"""Kills runs beside a bucket with faults, at chosen and random instants, on two machines.

    python -m tests.benchmarks.bucket_kills --kills=25 --seed=1 --kind=s3

Each run must end with the bits of one that was not killed and had no bucket, and after each kill
every checkpoint that is sealed in the bucket must be whole. The two machines are scratch
directories, and a process of one takes over from one of the other as from another machine's.
"""

import argparse
import os
import random
import signal
import tempfile
import time
from pathlib import Path

from resjax.config.addresses import Address
from resjax.runs import checkpoint, disk
from resjax.runs.scratch import workplace
from tests.buckets.servers import Simulated
from tests.durability.attempts import Attempts
from tests.durability.test_kill import assert_same_end, resident
from tests.durability.test_kills_beside_a_bucket import FAULTS, KILLS, SOON, downloaded
from tests.zygote import Zygote

STEPS = 60

KEYS = {"train.duration": f"{STEPS} steps", "eval.every": "20 steps"}


def kills(number: int, chance: random.Random) -> list[dict]:
    """Instants of so many kills: a half of them chosen, a half random."""
    chosen = [kill for kill in KILLS if "die" in kill]
    return [
        {"die": (chance.choice(chosen)["die"][0], chance.randrange(1, 4))}
        if each % 2
        else {"send": (signal.SIGKILL, "training", 0, chance.random())}
        for each in range(number)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0, help="of what is random")
    parser.add_argument("--kind", choices=("s3", "gs"), default="s3")
    options = parser.parse_args()
    chance, killed, runs, sealed = random.Random(options.seed), 0, 0, 0
    simulated = Simulated(options.kind, options.seed)
    os.environ.update(simulated.environment)
    print("| run | kills | begun at steps | requests | seconds | same bits |\n" + 6 * "|---" + "|")
    with Zygote() as zygote, tempfile.TemporaryDirectory() as name:
        directory, attempt = Path(name), Attempts(zygote, dict(os.environ))
        keys = resident(directory) | KEYS
        assert attempt(keys, directory / "whole", tell_every=0.25)[0] == 0
        keys["checkpoint.seconds"] = 1.0
        while killed < options.kills:
            began, own = time.monotonic(), 0
            address = Address.of(simulated.address(f"runs{runs}"))
            machines = [workplace(address, directory / f"machine{n}") for n in range(2)]
            simulated.faults.reset()
            simulated.faults.rates = FAULTS
            for kill in kills(min(8, options.kills - killed), chance):
                machine = chance.choice(machines)
                status, told = attempt(keys, machine, seeds=[0], set=SOON, **kill)
                assert status in (0, -signal.SIGKILL), told
                if status == 0:  # it was faster
                    break
                own += 1
                copy = downloaded(address / "0", directory / f"seen{runs}")
                for path in checkpoint.found(copy):
                    if not checkpoint.is_partial(path):
                        checkpoint.verified(path)
                        sealed += 1
            status, told = attempt(keys, chance.choice(machines), seeds=[0], set=SOON)
            assert status == 0, told
            requests = len(simulated.faults.seen)
            simulated.faults.reset()
            copy = downloaded(address / "0", directory / f"uploaded{runs}")
            assert_same_end(copy, directory / "whole")
            notes = disk.read_lines(copy / "timing.jsonl")
            steps = ", ".join(str(note["step"]) for note in notes if note["event"] == "begun")
            seconds = time.monotonic() - began
            print(f"| {runs} | {own} | {steps} | {requests} | {seconds:.0f} | yes |", flush=True)
            killed, runs = killed + own, runs + 1
    print(f"\n{killed} kills; {sealed} checkpoints looked at in the bucket, all whole")


if __name__ == "__main__":
    main()
