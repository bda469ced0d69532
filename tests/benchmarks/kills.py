"""Kills runs at random instants, again and again: each must end with the bits of one that was not.

    python -m tests.benchmarks.kills --kills=25 --seed=1

A run whose data are resident, one that streams and a group of three side by side take turns; a
table says at which steps they went on. The tests kill at instants that were chosen; what is found
here belongs there.
"""

import argparse
import random
import signal
import tempfile
from pathlib import Path

from tests.durability.attempts import Attempts
from tests.durability.test_kill import (
    SEEDS,
    TWO_DEVICES,
    assert_same_end,
    begun,
    resident,
    streaming,
)
from tests.zygote import Zygote

STEPS = 280

KEYS = {"train.duration": f"{STEPS} steps", "eval.every": "40 steps"}

PHASES = ["training"] * 8 + ["compiling", "evaluating"]

RUNS = {
    # name: feed, environment, seeds side by side
    "resident": (resident, {}, None),
    "stream": (streaming, TWO_DEVICES, None),
    "group": (resident, {}, SEEDS),
}


def campaign(name: str, directory: Path, kills: int, chance: random.Random) -> list[int]:
    """Kills a run so many times and lets it end; the steps at which it was begun."""
    feed, environment, seeds = RUNS[name]
    keys = feed(directory) | KEYS | ({"train.side_by_side": len(seeds)} if seeds else {})
    options = {"seeds": seeds} if seeds else {}
    whole, cut = directory / "whole", directory / "cut"
    with Zygote() as zygote:
        attempt = Attempts(zygote, environment)
        assert attempt(keys, whole, tell_every=0.25, **options)[0] == 0
        keys["checkpoint.seconds"] = 0.02  # so that most of the time one is being written
        reached, killed = 0, 0
        while killed < kills:
            phase = chance.choice(PHASES)
            step = reached + chance.randrange(30) if phase == "training" else 0
            send = signal.SIGKILL, phase, min(step, STEPS - 1), chance.random() * 0.3
            status, told = attempt(keys, cut, send=send, **options)
            killed += status == -9
            if status == 0:  # it was faster
                break
            reached = max((fact.get("step", 0) for fact in told), default=0)
        assert attempt(keys, cut, **options)[0] == 0
    ends = [(cut / str(seed), whole / str(seed)) for seed in seeds] if seeds else [(cut, whole)]
    for ended, expected in ends:
        assert_same_end(ended, expected)
    return begun(ends[0][0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25, help="of each run")
    parser.add_argument("--seed", type=int, default=0, help="of what is random")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    print("| run | begun at steps | ended with the same bits |\n|---|---|---|")
    for name in RUNS:
        with tempfile.TemporaryDirectory() as directory:
            steps = campaign(name, Path(directory), options.kills, chance)
        print(f"| {name} | {', '.join(map(str, steps))} | yes |", flush=True)


if __name__ == "__main__":
    main()
