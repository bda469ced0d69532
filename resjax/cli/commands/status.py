"""`resjax status`: the progress of the runs of a sweep."""

import argparse
import contextlib
import dataclasses
import json
import math
import time
from typing import TYPE_CHECKING

from resjax.buckets.faults import Unanswered
from resjax.cli.commands.command import Command
from resjax.cli.parsing import path_or_address
from resjax.cli.terminal.lines import say, shortened
from resjax.cli.terminal.tables import print_table, terminal_width
from resjax.config import ConfigError
from resjax.config.text import by_reason, several

if TYPE_CHECKING:
    from resjax.buckets.places import Copy, Here
    from resjax.cli.terminal.board import Board
    from resjax.runs.status import Status

SECONDS_BETWEEN_LISTINGS = 10.0
"""Seconds between two listings of a bucket whose runs are watched."""

SECONDS_FOR_ANOTHER = 30.0
"""Seconds for which a watch waits for a process to begin or resume a run."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dir", type=path_or_address, metavar="DIR",
        help="directory of a sweep or run, or gs://, s3://, az://")  # fmt: skip
    add("--watch", action="store_true", help="keep updating until all runs have finished")
    add("--json", action="store_true", help="print one JSON object per run")


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.buckets.places import reading
    from resjax.runs import needed

    if options.json and options.watch:
        raise ConfigError(
            "--watch has no effect with --json, which prints the runs once; leave one out"
        )
    with reading(options.dir, needed.STATUS, needed.SHOWN_IN_STATUS) as place:
        if options.json:
            _print_json(place)
            return 0
        if options.watch:
            _watch(place)
        _print(place)
    return 0


def _print_json(place: "Here | Copy") -> None:
    from resjax.runs.ledger import read_ledger

    board = _board(place)
    statuses, apart = board.look(), board.apart
    for status in statuses:
        ledger = read_ledger(status.directory)
        more = {"cost": ledger and dataclasses.asdict(ledger)}
        more["settings"] = apart.get(status.directory)
        print(place.named(json.dumps(dataclasses.asdict(status) | more, default=str)))


def _board(place: "Here | Copy") -> "Board":
    """The board of all runs in a directory, also of those that are planned while it is watched."""
    from resjax.cli.terminal.board import Board
    from resjax.runs.planned import plans_in, work_in

    directory = place.directory
    return Board(lambda: work_in(directory), lambda: plans_in(directory))


def _print(place: "Here | Copy") -> None:
    """Prints a row for each run, and lines about all: states, cost, and how to resume them.

    Runs that are waiting have rows if all fit into a board; otherwise a line names the first.
    """
    from resjax.buckets.places import retold
    from resjax.cli.terminal.board import MOST_ROWS, status_rows
    from resjax.runs.status import WAITING

    statuses = (board := _board(place)).look()
    shown = [retold(place, status) for status in statuses]
    hidden = [s for s in shown if s.state == WAITING] if len(shown) > MOST_ROWS else []
    rows = [s for s in shown if not hidden or s.state != WAITING]
    print_table(status_rows(rows, board.apart, terminal_width()))
    for names, why in by_reason((s.directory.name, s.why) for s in shown if s.why):
        say(f"{names}: {shortened(why)}")
    if hidden:
        more = f" and {len(hidden) - 1} more" if hidden[1:] else ""
        say(f"waiting: {hidden[0].directory.name}{more}")
    remedy = place.named(_how_to_resume(place, statuses))
    for line in filter(None, (board.line(statuses), _cost(statuses), remedy)):
        say(line)


def _cost(statuses: "list[Status]") -> str:
    """A line on what runs have cost so far; empty if none has begun."""
    from resjax.runs.ledger import known_total, read_ledger
    from resjax.runs.rundir import IMPORTED
    from resjax.runs.status import WAITING

    ledgers = [read_ledger(s.directory) for s in statuses if s.state not in (WAITING, IMPORTED)]
    parts, cost, unknown = [], known_total(ledgers), ledgers.count(None)
    if any(ledgers):
        spent = f"train + eval {cost.device_seconds:,.1f} device seconds"
        parts.append(f"compile {cost.compile_seconds:,.1f} s, {spent}")
    if cost.interruptions:
        stops = several(cost.interruptions, "interruption")
        parts.append(f"{cost.lost_seconds:,.1f} s lost to {stops}")
    if unknown:
        parts.append(f"the cost of {several(unknown, 'run')} is not known")
    return "; ".join(parts)


def _how_to_resume(place: "Here | Copy", statuses: "list[Status]") -> str:
    """A line on how to resume runs that no process is at work on; empty if there are none."""
    from resjax.runs import planned
    from resjax.runs.status import ENDED, WAITING

    left = [status for status in statuses if status.state not in ENDED]
    if not left or any(status.owner for status in left):
        return ""
    line = f"{several(len(left), 'run')} left, and no process at work; "
    others = {status.directory for status in left} - planned.planned_in(place.directory).keys()
    if len(others) == len(left):
        return line + "run the command again that began " + ("it" if len(left) == 1 else "them")
    line += "run the sweep again"
    if others:
        line += f", and the command that began {several(len(others), 'run')} of no sweep"
    if any(status.state == WAITING for status in left):
        plans = place.directory / planned.DIRECTORY
        line += f", or remove {plans} to forget the runs that are waiting"
    return line


def _watch(place: "Here | Copy") -> None:
    """Shows the runs until all have ended, or nobody is at work on them and none is in a queue."""
    from resjax.cli.terminal.live import Watch
    from resjax.runs import needed
    from resjax.runs.status import ENDED, in_a_queue

    board = _board(place)
    refreshed = time.monotonic()
    begun = any(status.state not in ENDED for status in board.look())
    at_work = refreshed if begun else -math.inf  # when a process was last seen at work
    reported = False
    with Watch(board, to_stdout=True) as watch:
        while True:
            watch.tell()  # before the look, after which no end is news
            statuses = board.look()
            left = [status for status in statuses if status.state not in ENDED]
            if not left and (board.plans or place.directory in board.work):
                break
            if any(status.owner for status in left):
                at_work, reported = time.monotonic(), False
            elif time.monotonic() - at_work > SECONDS_FOR_ANOTHER:
                queue = in_a_queue(statuses, board.plans)
                if not queue:
                    break
                if not reported:
                    watch.say(_in_a_queue(len(queue)))
                reported = True
            time.sleep(1.0)
            if time.monotonic() > refreshed + SECONDS_BETWEEN_LISTINGS:
                with contextlib.suppress(Unanswered):  # it may answer the next time
                    place.refresh(needed.STATUS, needed.SHOWN_IN_STATUS)
                refreshed = time.monotonic()


def _in_a_queue(runs: int) -> str:
    return (
        f"no process at work yet, and {several(runs, 'run')} waiting; the watch goes on, "
        "and Ctrl-C ends it"
    )


STATUS = Command(
    summary="show the progress of a sweep",
    usage="DIR [options]",
    run=_run,
    arguments=_arguments,
    notes="The state is read from the files of the runs, so this works on any machine that\n"
    "can see them. For a bucket, it shows what has been uploaded. Runs that a sweep\n"
    "has planned are waiting until they begin. --watch ends when all runs have\n"
    "finished, or if no process has been at work for half a minute, unless a sweep\n"
    "waits in a queue: runs of it are waiting, and none was interrupted.\n",
    examples=("resjax status runs/degradation", "resjax status gs://lab/degradation --watch"),
)
