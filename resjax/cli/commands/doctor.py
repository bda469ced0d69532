"""`resjax doctor`: the state of runs on disk, and advice about it."""

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING

from resjax.buckets.places import reading, retold
from resjax.cli.commands.command import Command
from resjax.cli.parsing import path_or_address
from resjax.cli.terminal.lines import say, shortened, tell
from resjax.config import ConfigError
from resjax.config.addresses import Address
from resjax.config.text import clock, several, space
from resjax.exits import EXIT_FAILED
from resjax.runs.rundir import DONE, runs_in

if TYPE_CHECKING:
    from resjax.runs.doctor import Finding


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dir", type=path_or_address, metavar="DIR",
        help="directory of a sweep or run, or gs://, s3://, az://")  # fmt: skip
    add("--repair", action="store_true", help="remove partially written files")
    add("--json", action="store_true", help="print one JSON object per run")


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    if options.repair and isinstance(options.dir, Address):
        raise ConfigError(
            f"--repair is for directories of this machine, and {options.dir} is in a bucket, where "
            "a run removes partial files when it is resumed; leave it out"
        )
    with reading(options.dir) as place:
        runs_in(place.directory)
        from resjax.runs.doctor import DAMAGED, examine_all, repair

        findings = examine_all(place.directory)
        if options.repair:
            for finding in findings:
                for path in repair(finding):
                    tell(f"removed: {path}")
            findings = examine_all(place.directory)
        if options.json:
            for finding in findings:
                print(place.named(json.dumps(dataclasses.asdict(finding), default=str)))
        else:
            _print([retold(place, finding) for finding in findings])
    bad = any(finding.state == DAMAGED or finding.damaged for finding in findings)
    return EXIT_FAILED if bad else 0


def _print(findings: "list[Finding]") -> None:
    """Prints the findings about every run, and the number of runs in each state, to stdout."""
    from resjax.runs.status import count_states

    for found in findings:
        step = "" if found.step is None else f" at step {found.step}"
        age = "" if found.age is None else f", {clock(found.age)} ago"
        count = several(len(found.whole), "checkpoint")
        say(
            f"{found.directory.name}: {found.state}{step}{age}, {space(found.size)}, {count}",
            style="bold" if found.state != DONE or found.damaged else None,
        )
        lines = [*found.damaged, *(f"partial: {path.name}" for path in found.partial)]
        if found.why:
            why = shortened(found.why.partition("\n")[0])  # a traceback may follow
            lines.append(why + (f"; {found.advice}" if found.advice else ""))
        for line in lines:
            say(f"  {line}")
    counts = count_states(found.state for found in findings)
    say(f"{several(len(findings), 'run')}: {counts}")
    if any(found.partial for found in findings):
        say("partial files are never read; --repair removes them")


DOCTOR = Command(
    summary="check the files of runs and suggest repairs",
    usage="DIR [options]",
    run=_run,
    arguments=_arguments,
    notes="The exit code is 1 if a file is damaged. For a bucket, everything is\n"
    "downloaded, and a copy is kept in the cache.\n",
    examples=("resjax doctor runs/degradation", "resjax doctor runs/degradation --repair"),
)
