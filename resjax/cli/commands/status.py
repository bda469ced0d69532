"""`resjax status`: the progress of the runs of a sweep."""

import argparse
import dataclasses
import json
import time

from resjax.cli.commands.command import Command
from resjax.cli.parsing import path
from resjax.config.overrides import refuse


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=path, metavar="DIR", help="directory of a sweep or a run")
    parser.add_argument("--watch", action="store_true", help="follow them until all have ended")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each run")


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.cli.terminal.live import Board, Watch
    from resjax.runs.ledger import read_ledger
    from resjax.runs.status import ENDED, look_in

    refuse(rest)
    statuses = look_in(options.dir)
    if options.json:
        for status in statuses:
            ledger = read_ledger(status.directory)
            cost = {"cost": ledger and dataclasses.asdict(ledger)}
            print(json.dumps(dataclasses.asdict(status) | cost, default=str))
        return 0
    board = Board(dict.fromkeys((status.directory for status in statuses), 1.0))
    if not options.watch:
        from resjax.cli.terminal.statuses import print_statuses

        ledgers = [read_ledger(status.directory) for status in statuses]
        print_statuses(statuses, board.line(statuses), ledgers)
        return 0
    with Watch(board, to_stdout=True) as watch:
        while any(status.state not in ENDED for status in board.look()):
            watch.tell()
            time.sleep(1.0)
    return 0


STATUS = Command(
    summary="tell how far the runs of a sweep are",
    usage="DIR [options]",
    run=_run,
    arguments=_arguments,
    notes="It reads the directory alone, on any machine that sees it. A run that is\n"
    "training (2x) went on after two interruptions. Runs that were not begun are not\n"
    "seen here; resjax sweep --dry-run lists them.\n",
    examples=("resjax status runs/degradation", "resjax status runs/degradation --watch"),
)
