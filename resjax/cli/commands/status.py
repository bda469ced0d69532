"""`resjax status`: the progress of the runs of a sweep."""

import argparse
import contextlib
import dataclasses
import json
import time
from typing import TYPE_CHECKING

from resjax.buckets.faults import Unanswered
from resjax.cli.commands.command import Command
from resjax.cli.parsing import path_or_address
from resjax.config.overrides import refuse

if TYPE_CHECKING:
    from resjax.buckets.places import Copy, Here

SECONDS_BETWEEN_LISTINGS = 10.0
"""Seconds between two listings of a bucket whose runs are watched."""


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
        else:
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
    from resjax.runs.status import look_in

    statuses = look_in(place.directory)
    ledgers = [read_ledger(status.directory) for status in statuses]
    board = Board(dict.fromkeys((status.directory for status in statuses), 1.0))
    told = [retold(place, status) for status in statuses]
    print_statuses(told, board.line(statuses), ledgers)


def _watch(place: "Here | Copy") -> None:
    from resjax.cli.terminal.live import Board, Watch
    from resjax.runs import needed
    from resjax.runs.status import ENDED, look_in

    board = Board({status.directory: 1.0 for status in look_in(place.directory)})
    refreshed = time.monotonic()
    with Watch(board, to_stdout=True) as watch:
        while any(status.state not in ENDED for status in board.look()):
            watch.tell()
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
    "resumed twice. Runs that have not started are not shown; to list them, use\n"
    "resjax sweep --dry-run.\n",
    examples=("resjax status runs/degradation", "resjax status gs://lab/degradation --watch"),
)
