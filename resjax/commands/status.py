"""`resjax status`: how far the runs of a sweep are."""

import argparse
import dataclasses
import json
import time

from resjax.commands.command import Command
from resjax.overrides import refuse
from resjax.parsing import path


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=path, metavar="DIR", help="directory of a sweep or a run")
    parser.add_argument("--watch", action="store_true", help="follow them until all have ended")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each run")


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.sweeps.ledger import read_ledger
    from resjax.sweeps.status import ENDED, look_in
    from resjax.terminal.live import Board, Watch

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
        from resjax.terminal.sweeps import print_statuses

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
