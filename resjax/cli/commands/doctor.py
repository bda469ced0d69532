"""`resjax doctor`: the state of runs on disk, and advice about it."""

import argparse
import dataclasses
import json

from resjax.cli.commands.command import Command
from resjax.cli.parsing import path
from resjax.config.overrides import refuse
from resjax.exits import EXIT_FAILED
from resjax.runs.rundir import runs_in


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=path, metavar="DIR", help="directory of a sweep or a run")
    parser.add_argument(
        "--repair", action="store_true", help="remove files that were only partly written"
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON for each run")


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    refuse(rest)
    runs_in(options.dir)
    from resjax.cli.terminal.findings import print_findings, print_removed
    from resjax.runs.doctor import DAMAGED, examine_all, repair

    findings = examine_all(options.dir)
    if options.repair:
        removed = [path for finding in findings for path in repair(finding)]
        print_removed(removed)
        findings = examine_all(options.dir)
    if options.json:
        for finding in findings:
            print(json.dumps(dataclasses.asdict(finding), default=str))
    else:
        print_findings(findings)
    bad = any(finding.state == DAMAGED or finding.damaged for finding in findings)
    return EXIT_FAILED if bad else 0


DOCTOR = Command(
    summary="verify what runs have on disk, and say what to do",
    usage="DIR [options]",
    run=_run,
    arguments=_arguments,
    notes="It ends with exit code 1 if a file is not what was written.\n",
    examples=("resjax doctor runs/degradation", "resjax doctor runs/degradation --repair"),
)
