"""The cost of runs, from the times that they record on disk: `timing.jsonl`."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from resjax.config import ConfigError
from resjax.runs import claims, disk, files, rundir

DECIMALS = 6
"""Decimals of a second that are kept; sums of many lines are no more exact."""

TIMES = {
    "compile": "making or restoring the state, and compiling the programs",
    "train": "the steps",
    "eval": "evaluations, with their probes",
    "in all": "the three together",
}
"""Names of the seconds of a run, with the same meanings in terminals, files and reports."""

DEFINITION = (
    f"Seconds: {'; '.join(f'{name}, {meaning}' for name, meaning in TIMES.items())}. "
    "Device seconds are those of train and eval, times the devices of the process. Lost "
    "is what would not have been spent without interruptions: the work after the checkpoint from "
    "which a run went on, and starting it again; it is part of the other two. Of a process that "
    "was killed it is the least that was lost: what it did after its last report of progress, "
    "every 2 s in training, is not known."
)
"""Definition of the numbers, for readers of a report."""

CLOCKS_DIFFER = 0.1
"""Maximum seconds by which counted times may exceed recorded ones; with more, a line is missing."""


@dataclasses.dataclass(frozen=True)
class Ledger:
    """The cost of a run, or of several.

    A run spends seconds in attempts. Those that count are what its result states, and the rest
    is lost:

        lost = sum over all attempts of (compile + train + eval) - what counts

    What a process does after its last checkpoint counts until another one goes on without it. It is
    not known beyond its last record: a note in `timing.jsonl`, or if the process was killed,
    `progress.json`, which is written every 2 s in training and at the start of an evaluation or a
    compilation. So `lost` is a lower bound where a process was killed, and exact otherwise.

    Attributes:
      device_seconds: seconds of train and eval in all attempts, times the devices of each.
      compile_seconds: seconds of compile in all attempts.
      lost_seconds: seconds of the process, and so of all its devices, that were lost.
      interruptions: number of times that the run went on, or waits to: one that nobody is at work
        on and that has not ended was interrupted once more than it went on.
    """

    device_seconds: float = 0.0
    compile_seconds: float = 0.0
    lost_seconds: float = 0.0
    interruptions: int = 0

    def __add__(self, other: "Ledger") -> "Ledger":
        sums = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Ledger(*(one + more for one, more in sums))


def read_ledger(run: Path) -> Ledger | None:
    """The cost of a run in any state; None if its times are incomplete or damaged."""
    try:
        lines = disk.read_lines(run / files.TIMING)
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
    """Tells whether a run was begun, has not ended, and no process works on it."""
    return rundir.run_state(run) == rundir.UNFINISHED and claims.owner(run) is None


def known_total(ledgers: Iterable[Ledger | None]) -> Ledger:
    """The sum of the known ledgers."""
    return sum((ledger for ledger in ledgers if ledger), Ledger())
