"""What runs have cost, from the times that they note on disk: `timing.jsonl`."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from resjax.config import ConfigError
from resjax.runs import claims, rundir

DECIMALS = 6
"""Of a second; sums of many lines are no more exact than that."""

DEFINITION = (
    "Device seconds are those of training and evaluation, times the devices of the process. Lost "
    "is what would not have been spent without interruptions: the work after the checkpoint from "
    "which a run went on, and starting it again; it is part of the other two. Of a process that "
    "was killed it is the least that was lost: what it did after it last told its progress, every "
    "2 s in training, is not known."
)
"""For readers of the numbers."""

CLOCKS_DIFFER = 0.1
"""Seconds, at most, that count and that no line tells of; more are those of a line that is gone."""


@dataclasses.dataclass(frozen=True)
class Ledger:
    """The cost of a run, or of several.

    A run spends seconds in attempts. Those that count are what its result tells of, and the rest is
    lost:

        lost = sum over all attempts of (compile + train + eval) - what counts

    What a process does after its last checkpoint counts until another one goes on without it. It is
    not known longer than it was told: by a note in `timing.jsonl`, or if the process was killed, by
    `progress.json`, which is written every 2 s in training and at the start of an evaluation or a
    compilation. So `lost` is a lower bound where a process was killed, and exact otherwise.

    Attributes:
      device_seconds: of training and evaluation in all attempts, times the devices of each.
      compile_seconds: of all attempts, with what else it takes to start one.
      lost_seconds: of the process, and so of all its devices.
      interruptions: how often the run went on, or waits to: one that nobody is at work on and that
        has not ended was interrupted once more than it went on.
    """

    device_seconds: float = 0.0
    compile_seconds: float = 0.0
    lost_seconds: float = 0.0
    interruptions: int = 0

    def __add__(self, other: "Ledger") -> "Ledger":
        sums = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Ledger(*(one + more for one, more in sums))


def read_ledger(run: Path) -> Ledger | None:
    """The cost of a run, whatever its state; None if its times are not all on disk, or damaged."""
    try:
        lines = rundir.read_lines(run / "timing.jsonl")
    except ConfigError:
        return None
    begun = [line for line in lines if line["event"] == "begun"]
    if not begun or not all("counted" in line for line in lines):  # an early version, or damaged
        return None
    devices, device_seconds, spent = 0, 0.0, 0.0
    for line in lines:
        devices = line.get("devices", devices)
        device_seconds += devices * (line["train"] + line["eval"])
        spent += line["compile"] + line["train"] + line["eval"]
    lost = spent - lines[-1]["counted"]
    if lost < -CLOCKS_DIFFER:
        return None
    return Ledger(
        round(device_seconds, DECIMALS),
        round(sum(line["compile"] for line in lines), DECIMALS),
        max(0.0, round(lost, DECIMALS)),
        len(begun) - 1 + _waits(run),
    )


def _waits(run: Path) -> bool:
    """Whether a run was begun, has not ended, and nobody is at work on it."""
    return rundir.run_state(run) == rundir.UNFINISHED and claims.owner(run) is None


def known_total(ledgers: Iterable[Ledger | None]) -> Ledger:
    """The sum of those that are known."""
    return sum((ledger for ledger in ledgers if ledger), Ledger())
