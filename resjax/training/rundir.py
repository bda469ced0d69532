"""A run on disk: its files, how they are written, and what a directory is.

config.json    every key of the config, written first
manifest.json  what ran: versions, device, git state, sizes, data fingerprint, seconds
metrics.jsonl  a line per evaluation, without a clock
timing.jsonl   the seconds of each
error.txt      why the run stopped, if it failed
result.json    written last and atomically: it exists only if the run is done
"""

import json
import math
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from resjax.config import ConfigError, default_config, flatten, identity

DONE, FAILED, UNFINISHED, ABSENT = "done", "failed", "unfinished", "absent"


def run_state(directory: Path) -> str:
    """What a directory is: DONE, FAILED (by itself), UNFINISHED (interrupted), ABSENT (no run)."""
    if not (directory / "config.json").is_file():
        return ABSENT
    if (directory / "result.json").is_file():
        return DONE
    return FAILED if (directory / "error.txt").is_file() else UNFINISHED


def open_run(directory: Path, config: ConfigDict) -> str:
    """Makes `directory` the directory of this config's run and returns its state so far.

    A run that is not done starts anew: what an earlier attempt left is removed.

    Raises:
      ConfigError: if the directory holds another config, naming the keys that differ, or cannot be
        written.
    """
    refuse_other_config(directory, config)
    state = run_state(directory)
    if state == DONE:
        return state
    make_directory(directory)
    for name in ("manifest.json", "metrics.jsonl", "timing.jsonl", "error.txt"):
        (directory / name).unlink(missing_ok=True)
    write_json(directory / "config.json", flatten(config))
    return state


def make_directory(directory: Path) -> None:
    """Makes a directory that can be written to.

    Raises:
      ConfigError: if that is not possible.
    """
    probe = directory / f".writable.{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"cannot write to {directory}: {error.strerror}; choose another --workdir"
        ) from None


def refuse_other_config(directory: Path, config: ConfigDict) -> None:
    """Raises ConfigError if the directory holds the run of another config, naming the keys."""
    if run_state(directory) == ABSENT:
        return
    defaults = flatten(default_config())
    there, here = defaults | identity(read_config(directory)), defaults | identity(config)
    differing = [
        f"{key} is {there.get(key)!r} there, {here.get(key)!r} here"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key)
    ]
    if differing:
        raise ConfigError(
            f"{directory} holds a run of another config ({'; '.join(differing)}); "
            "choose another --workdir"
        )


def read_config(directory: Path) -> dict[str, Any]:
    """{dotted key: value} of a run, with today's default for keys that are younger than the run."""
    return flatten(default_config()) | read_json(directory / "config.json")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
      ConfigError: if it is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read {path}: {error}; remove its directory to run again"
        ) from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file; a last line that was cut off is left out."""
    lines = path.read_text().split("\n") if path.is_file() else []
    return [json.loads(line) for line in lines[:-1]]


def write_json(path: Path, content: Any) -> None:
    """Writes a file that is either whole or not there; numbers that are not finite become null."""
    text = json.dumps(_finite(content), indent=2, allow_nan=False)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Adds one object to a JSON lines file."""
    with path.open("a") as file:
        file.write(json.dumps(_finite(content), allow_nan=False) + "\n")


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
