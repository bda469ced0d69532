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
from resjax.config.overrides import refuse
from resjax.config.text import several

if TYPE_CHECKING:
    from resjax.buckets.places import Copy, Here
    from resjax.runs.status import Status

SECONDS_BETWEEN_LISTINGS = 10.0
"""Seconds between two listings of a bucket whose runs are watched."""

SECONDS_FOR_ANOTHER = 30.0
"""Seconds for which a watch waits for a process to begin or resume a run."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dir", type=path_or_address, metavar="DIR",
        help="directory of a sweep or run, or gs://, s3://, az://",
    )  # fmt: skip
    parser.add_argument(
        "--watch", action="store_true", help="keep updating until all runs have finished"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per run")


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.buckets.places import reading
    from resjax.runs import needed

    refuse(rest)
    with reading(options.dir, needed.STATUS, needed.SHOWN_IN_STATUS) as place:
        if options.json:
            _print_json(place)
        elif options.watch:
            _watch(place)
        if not options.json:
            _print(place)
    return 0


def _print_json(place: "Here | Copy") -> None:
    from resjax.runs.ledger import read_ledger
    from resjax.runs.status import look_in

    for status in look_in(place.directory):
        ledger = read_ledger(status.directory)
        cost = {"cost": ledger and dataclasses.asdict(ledger)}
        print(place.named(json.dumps(dataclasses.asdict(status) | cost, default=str)))


def _print(place: "Here | Copy") -> None:
    from resjax.buckets.places import retold
    from resjax.cli.terminal.live import Board
    from resjax.cli.terminal.statuses import print_statuses
    from resjax.runs.ledger import read_ledger
    from resjax.runs.planned import weights_in

    board = Board(weights_in(place.directory))
    statuses = board.look()
    ledgers = [read_ledger(status.directory) for status in statuses]
    told = [retold(place, status) for status in statuses]
    print_statuses(told, board.line(statuses), ledgers, place.named(_left_alone(place, statuses)))


def _left_alone(place: "Here | Copy", statuses: "list[Status]") -> str:
    """Tells how to go on with planned runs that no process is at work on; empty if all is well."""
    from resjax.runs import planned
    from resjax.runs.status import ENDED, WAITING

    left = [status for status in statuses if status.state not in ENDED]
    if not left or any(status.owner for status in left) or not planned.planned_in(place.directory):
        return ""
    line = f"{several(len(left), 'run')} left, and no process at work; start the sweep again"
    if any(status.state == WAITING for status in left):
        plans = place.directory / planned.DIRECTORY
        line += f", or remove {plans} to forget those that are waiting"
    return line


def _watch(place: "Here | Copy") -> None:
    from resjax.cli.terminal.live import Board, Watch
    from resjax.runs import needed
    from resjax.runs.planned import planned_in, weights_in
    from resjax.runs.status import ENDED

    board = Board(weights_in(place.directory))
    patience = 0.0 if place.directory in board.weights else SECONDS_FOR_ANOTHER
    refreshed = time.monotonic()
    under_way = refreshed if planned_in(place.directory) else -math.inf
    with Watch(board, to_stdout=True) as watch:
        while True:
            board.weights, planned = weights_in(place.directory), planned_in(place.directory)
            watch.tell()  # before the look, after which no end is news
            left = [status for status in board.look() if status.state not in ENDED]
            if planned and not left:
                break
            if any(status.owner or not planned for status in left):
                under_way = time.monotonic()
            elif time.monotonic() - under_way > patience:
                break
            time.sleep(1.0)
            if time.monotonic() > refreshed + SECONDS_BETWEEN_LISTINGS:
                with contextlib.suppress(Unanswered):  # it may answer the next time
                    place.refresh(needed.STATUS, needed.SHOWN_IN_STATUS)
                refreshed = time.monotonic()


STATUS = Command(
    summary="show the progress of a sweep",
    usage="DIR [options]",
    run=_run,
    arguments=_arguments,
    notes="Only the directory is read, so this works on any machine that can see it. For\n"
    "a bucket, it shows what has been uploaded. A run shown as training (2x) was\n"
    "resumed twice. Runs that a sweep has planned are waiting until they begin.\n"
    "--watch ends when all planned runs have finished, or if no process is at work\n"
    "on any for half a minute.\n",
    examples=("resjax status runs/degradation", "resjax status gs://lab/degradation --watch"),
)
