"""`resjax doctor`: the state of runs on disk, and advice about it."""

import argparse
import dataclasses
import json

from resjax.buckets.places import reading, retold
from resjax.cli.commands.command import Command
from resjax.cli.parsing import path_or_address
from resjax.config import ConfigError
from resjax.config.addresses import Address
from resjax.config.overrides import refuse
from resjax.exits import EXIT_FAILED
from resjax.runs.rundir import runs_in


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dir", type=path_or_address, metavar="DIR",
        help="directory of a sweep or a run; also gs://BUCKET/PATH, s3://, az://",
    )  # fmt: skip
    parser.add_argument(
        "--repair", action="store_true", help="remove files that were only partly written"
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON for each run")


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    refuse(rest)
    if options.repair and isinstance(options.dir, Address):
        raise ConfigError(
            f"--repair is for directories of this machine, and {options.dir} is in a bucket, where "
            "a run that goes on removes what is partial; leave it out"
        )
    with reading(options.dir) as place:
        runs_in(place.directory)
        from resjax.cli.terminal.findings import print_findings, print_removed
        from resjax.runs.doctor import DAMAGED, examine_all, repair

        findings = examine_all(place.directory)
        if options.repair:
            removed = [path for finding in findings for path in repair(finding)]
            print_removed(removed)
            findings = examine_all(place.directory)
        if options.json:
            for finding in findings:
                print(place.named(json.dumps(dataclasses.asdict(finding), default=str)))
        else:
            print_findings([retold(place, finding) for finding in findings])
    bad = any(finding.state == DAMAGED or finding.damaged for finding in findings)
    return EXIT_FAILED if bad else 0


DOCTOR = Command(
    summary="verify what runs have on disk, and say what to do",
    usage="DIR [options]",
    run=_run,
    arguments=_arguments,
    notes="It ends with exit code 1 if a file is not what was written. Of a bucket it\n"
    "reads everything, and keeps a copy in the cache.\n",
    examples=("resjax doctor runs/degradation", "resjax doctor runs/degradation --repair"),
)
