"""A run on disk: its files, how they are written, and what a directory is.

config.json    every key of the config, written first
manifest.json  what ran: versions, device, git state, sizes, data fingerprint, seconds
metrics.jsonl  a line per evaluation, without a clock
timing.jsonl   the seconds of each
error.txt      why the run stopped, if it failed
result.json    written last and atomically: it exists only if the run is done
"""

import fcntl
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from resjax.config import ConfigError, deciding_keys, default_config, differences, flatten

DONE, FAILED, UNFINISHED, ABSENT = "done", "failed", "unfinished", "absent"

IMPORTED = "imported"
"""The state of a directory whose weights another framework trained; nothing is run in it."""

IMPORTED_FILE = "imported.json"


def run_state(directory: Path) -> str:
    """What a directory is.

    DONE, FAILED (by itself), UNFINISHED (interrupted), IMPORTED (not of resjax), ABSENT (no run).
    """
    try:
        if not (directory / "config.json").is_file():
            return ABSENT
    except OSError as error:  # a name that is too long, for one
        raise ConfigError(f"{directory}: {error.strerror}; choose another directory") from None
    if (directory / IMPORTED_FILE).is_file():
        return IMPORTED
    if (directory / "result.json").is_file():
        return DONE
    return FAILED if (directory / "error.txt").is_file() else UNFINISHED


def begin_run(directory: Path, config: ConfigDict) -> None:
    """Makes `directory`, which exists, the directory of this config's run.

    What an earlier attempt left is removed.
    """
    for name in ("manifest.json", "metrics.jsonl", "timing.jsonl", "error.txt"):
        (directory / name).unlink(missing_ok=True)
    write_json(directory / "config.json", flatten(config))


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
            f"cannot write to {directory}: {error.strerror}; choose another directory"
        ) from None


def refuse_other_config(directory: Path, config: ConfigDict) -> None:
    """Raises ConfigError if the directory holds the run of another config, naming the keys."""
    state = run_state(directory)
    if state == ABSENT:
        return
    if state == IMPORTED:
        raise ConfigError(
            f"{directory} holds imported weights; start from them in another directory with "
            f"--config.train.init_from={directory}"
        )
    defaults = flatten(default_config())
    there, here = defaults | deciding_keys(read_config(directory)), defaults | deciding_keys(config)
    if differing := differences(there, here, "there", "here"):
        raise ConfigError(
            f"{directory} holds a run of another config ({differing}); choose another directory"
        )


def read_config(directory: Path) -> dict[str, Any]:
    """{dotted key: value} of a run, with today's default for keys that are younger than the run."""
    return flatten(default_config()) | read_json(directory / "config.json")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
      ConfigError: if it is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    return content


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file; a last line that was cut off is left out.

    Raises:
      ConfigError: if the file is missing or damaged.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        objects = [json.loads(line) for line in lines]
        if not all(isinstance(content, dict) for content in objects):
            raise ValueError("a line is no JSON object")
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    return objects


def _unreadable(path: Path, error: Exception) -> ConfigError:
    reason = error.strerror if isinstance(error, OSError) else error
    return ConfigError(f"cannot read {path} ({reason}); remove its directory to run it again")


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps other processes from running in a directory; the lock dies with its owner.

    Raises:
      ConfigError: if another process holds it.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(
            f"{directory} is being run by another process; wait for it or choose another directory"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Any) -> None:
    """Writes a file that is either whole or not there; numbers that are not finite become null."""
    text = json.dumps(_finite(content), indent=2, allow_nan=False)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Adds one object to a JSON lines file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(_finite(content), allow_nan=False) + "\n")


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
