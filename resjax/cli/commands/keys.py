"""`resjax keys`: a search in the keys of a config."""

import argparse
import json
import os
import shutil
from typing import Any

from resjax.cli.commands.command import EXPERIMENT, Command
from resjax.cli.commands.experiment import read_experiment
from resjax.cli.parsing import filled
from resjax.cli.reference import matching, values_of
from resjax.cli.terminal.lines import wrapped
from resjax.config import flatten
from resjax.config.keys import KEYS
from resjax.config.text import printable

NOTES = """\
PATTERN is a word, or a glob over names such as 'optim.*'. All words must occur
in the name, the meaning or the values of a key. Each glob finds its own keys.
Case does not matter.
With --config=FILE, the keys that the file adds are included, and its values are
shown beside the defaults.
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pattern", nargs="*", type=filled, metavar="PATTERN",
        help="word or glob (default: all keys)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object per key")


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    values = flatten(read_experiment(rest)[2]) if rest else {}
    entries = [_entry(name, values) for name in matching(" ".join(options.pattern))]
    if options.json:
        for entry in entries:
            print(json.dumps(entry))
        return 0
    width = shutil.get_terminal_size().columns
    print("\n\n".join("\n".join(_lines(entry, width)) for entry in entries))
    return 0


def _entry(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """A key as JSON shows it, with its value in a config if `values` has it."""
    key = KEYS[name]
    entry = {"key": name, "default": key.default}
    if name in values:
        entry["value"] = values[name]
    entry |= {"meaning": key.meaning, "values": values_of(key), "choices": key.choices}
    entry["decides"] = key.decides
    if name in KEYS.files:
        entry["added_by"] = os.path.relpath(KEYS.files[name]) if KEYS.files[name] else ""
    return entry


def _lines(entry: dict[str, Any], width: int) -> list[str]:
    """A key as lines of text, of at most `width` columns unless a word is longer."""
    value = entry.get("value", entry["default"])
    notes = [f"default: {entry['default']!r}"] if value != entry["default"] else []
    notes += [f"added by {entry['added_by']}"] if entry.get("added_by") else []
    head = f"{entry['key']} = {value!r}" + (f" ({', '.join(notes)})" if notes else "")
    lines = [head, f"  {entry['meaning']}", f"  values: {entry['values']}"]
    if entry["decides"] != "result":
        lines.append("  Changes how a run is executed, not the name of the run.")
    return [wrapped(printable(line), width) for line in lines]


KEYS_COMMAND = Command(
    summary="search the keys of the config",
    usage="[PATTERN ...] [options]",
    run=_run,
    arguments=_arguments,
    experiment=EXPERIMENT,
    notes=NOTES,
    examples=(
        "resjax keys learning rate",
        "resjax keys 'norm.*' 'optim.*'",
        "resjax keys shortcut --config=mine.py",
    ),
)
