"""A run on disk: its files, how they are written, and what a directory is.

config.json    every key of the config, written first
manifest.json  what ran: versions, device, git state, sizes, data fingerprint, seconds
metrics.jsonl  a line per evaluation, without a clock
timing.jsonl   what happened when, with the seconds until then; see `resjax.runs.ledger`
checkpoints/   see `resjax.runs.checkpoint`
probes.jsonl   arrays by block, a line per evaluation, if `eval.probes` names any
probes/STEP/   what `resjax probe` found in a checkpoint, and its figures
left_out.json  images that could not be read, if there are any
events.out.tfevents.*  the numbers of metrics.jsonl for TensorBoard
weights.safetensors  the network of the last evaluation; see `resjax.runs.weights`
imported.json  where those weights are from, if no run of resjax trained them
progress.json  how far the run is, every few seconds until it is done
claim.json     who is at work on it; see `resjax.runs.claims`
error.txt      why the run stopped, if it failed
result.json    written last and atomically: it exists only if the run is done

Every JSON object has a digest of the rest of it, so that a damaged one is never taken for whole.
"""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ml_collections import ConfigDict
from packaging.version import Version

import resjax
from resjax.config import ConfigError, defaults, differences, flatten
from resjax.config.naming import deciding_keys

DONE, FAILED, UNFINISHED, ABSENT = "done", "failed", "unfinished", "absent"

IMPORTED = "imported"
"""State of a directory whose weights another framework trained; nothing is run in it."""

IMPORTED_FILE = "imported.json"

PROBES_FILE = "probes.jsonl"

LEFT_BY_RUNS = (
    "config.json", "manifest.json", "metrics.jsonl", "timing.jsonl", "result.json", "checkpoints",
)  # fmt: skip
"""Files that only a run writes, and only after its config."""

LAYOUT = 1
"""Version of a run's files; raised when an earlier version of resjax could misunderstand them."""

DIGEST = "sha256"
"""Key of an object's digest, named after the algorithm of whose output that is the start."""

DIGEST_LENGTH = 16


def run_state(directory: Path) -> str:
    """State of the run in a directory.

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


def is_run(directory: Path) -> bool:
    """Tells whether a directory is a run's, or what is left of one."""
    return directory.is_dir() and any((directory / name).exists() for name in LEFT_BY_RUNS)


def runs_in(directory: Path) -> list[Path]:
    """Runs in a directory, by name, or the directory if it is one itself; remains of runs count.

    Raises:
      ConfigError: if there is none.
    """
    below = sorted(filter(is_run, directory.glob("*/")))
    if run_state(directory) != ABSENT or (is_run(directory) and not below):
        return [directory]
    if not below:
        raise ConfigError(f"no run in {directory}; start with resjax train or resjax sweep")
    return below


def has_lost_config(directory: Path) -> bool:
    """Tells whether the config of a run is gone while other files of it are there."""
    return run_state(directory) == ABSENT and is_run(directory)


def refuse_no_config(directory: Path) -> None:
    """Raises ConfigError if a run has lost its config."""
    if has_lost_config(directory):
        raise ConfigError(
            f"{directory / 'config.json'} is missing beside other files of a run; "
            f"resjax doctor {directory} says what to do"
        )


def begin_run(directory: Path, config: ConfigDict) -> None:
    """Makes `directory`, which exists, the directory of this config's run, or goes on with it."""
    (directory / "error.txt").unlink(missing_ok=True)
    if run_state(directory) == ABSENT:
        made_by = {"layout": LAYOUT, "resjax": resjax.__version__}
        write_json(directory / "config.json", made_by | flatten(config))
    for partial in partial_files(directory):
        partial.unlink()


def partial_files(directory: Path) -> list[Path]:
    """Files that processes left incomplete because they ended while they wrote."""
    return sorted(directory.glob(".*.partial"))


def make_directory(directory: Path) -> None:
    """Makes a directory that can be written to.

    Raises:
      ConfigError: if it cannot be made, or written to.
    """
    probe = directory / f".writable.{os.getpid()}.partial"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"cannot write to {directory}: {error.strerror}; "
            "make it writable, or choose another directory"
        ) from None


def refuse_other_config(directory: Path, config: ConfigDict) -> None:
    """Makes sure that a directory is free for a run, or its own.

    Raises:
      ConfigError: if it holds the run of another config, naming the keys; or a sweep; or if it lies
        in a run.
    """
    state = run_state(directory)
    if state == ABSENT:
        _refuse_mixed(directory)
        if (directory / "result.json").exists():  # which would be taken for that of this config
            refuse_no_config(directory)
        return
    if state == IMPORTED:
        raise ConfigError(
            f"{directory} holds imported weights; start from them in another directory with "
            f"--config.train.init_from={directory}"
        )
    there = defaults() | deciding_keys(read_config(directory))
    here = defaults() | deciding_keys(config)
    if differing := differences(there, here, "there", "here"):
        raise ConfigError(
            f"{directory} holds a run of another config ({differing}); choose another directory"
        )


def refuse_no_run(directory: Path) -> None:
    """Makes sure that a directory is a run, whatever its state.

    Raises:
      ConfigError: if it is not there, empty, or a sweep, of which it names a run.
    """
    if run_state(directory) != ABSENT:
        return
    if runs := sorted(directory.glob("*/config.json")):
        raise ConfigError(f"{directory} is a sweep; name one of its runs, such as {runs[0].parent}")
    raise ConfigError(f"no run in {directory}; name the directory of one")


def _refuse_mixed(directory: Path) -> None:
    """Raises ConfigError for a run in a sweep's directory, or below that of another run."""
    if runs := len(list(directory.glob("*/config.json"))):
        raise ConfigError(
            f"{directory} is a sweep, of {runs} so far; give this run a directory of its own, such "
            f"as {directory}-one"
        )
    if (directory.parent / "config.json").exists():
        raise ConfigError(f"{directory.parent} is a run; choose a directory that is not in one")


def read_config(directory: Path) -> dict[str, Any]:
    """Reads {dotted key: value} of a run; keys that are younger than the run have today's default.

    Raises:
      ConfigError: if it is missing, damaged, or of a later version of resjax.
    """
    path = directory / "config.json"
    content = read_json(path)
    layout, made_by = content.pop("layout", 0), content.pop("resjax", "0")
    if layout > LAYOUT or Version(made_by) > Version(resjax.__version__):
        raise ConfigError(
            f"{path} is of resjax {made_by}, and this is {resjax.__version__}; use that version or "
            "a later one"
        )
    return defaults() | content


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
      ConfigError: if it is missing or damaged.
    """
    try:
        return opened(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file; a last line that was cut off is left out.

    Raises:
      ConfigError: if the file is missing or damaged.
    """
    try:
        return list(map(opened, _lines(path.read_bytes())))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _lines(content: bytes) -> list[bytes]:
    """Lines of a file, without the rest of a last one whose writing was cut off.

    A whole object and one byte after it are no such rest: the newline was changed.
    """
    *lines, rest = content.split(b"\n")
    with contextlib.suppress(ValueError):
        opened(rest[:-1])
        lines.append(rest)
    return lines


def mend_lines(path: Path, instead: dict[str, Any]) -> None:
    """Puts an object in the place of each damaged line of a JSON lines file, if there are any."""
    try:
        lines = _lines(path.read_bytes())
    except FileNotFoundError:
        return
    kept, damaged = [], False
    for line in lines:
        try:
            kept.append(opened(line))
        except ValueError:
            kept.append(instead)
            damaged = True
    if damaged:
        write_lines(path, kept)


def write_result(directory: Path, result: dict[str, Any]) -> None:
    """Writes `result.json`, with the digest of `metrics.jsonl`: the run is done."""
    seal = {"metrics_sha256": _file_digest(directory / "metrics.jsonl")}
    write_json(directory / "result.json", result | seal)


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """Reads the evaluations of a run; if it is done, they must be those that its result tells of.

    Raises:
      ConfigError: if the file is missing or damaged.
    """
    path, lines = directory / "metrics.jsonl", read_lines(directory / "metrics.jsonl")
    if run_state(directory) == DONE:
        expected = read_json(directory / "result.json").get("metrics_sha256")
        if expected and _file_digest(path) != expected:
            raise _unreadable(path, ValueError("it is not that of result.json"))
    return lines


def read_failure(directory: Path) -> str:
    """Reads why a run failed, and the traceback if there was one, from its `error.txt`."""
    try:
        return (directory / "error.txt").read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        return f"error.txt cannot be read: {error.strerror}"


def seal(path: Path) -> dict[str, Any]:
    """The size and digest of a file, for `refuse_other_file` to compare it with."""
    return {"bytes": path.stat().st_size, DIGEST: _file_digest(path)}


def refuse_other_file(path: Path, sealed: Mapping[str, Any]) -> None:
    """Raises ConfigError unless a file begins with what was in it when it was sealed."""
    if _file_digest(path, sealed["bytes"]) != sealed[DIGEST]:
        raise _unreadable(path, ValueError("it is not what the run wrote"))


def _file_digest(path: Path, size: int = -1) -> str:
    """The SHA-256 of a file, or of its first bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.sha256(file.read(size)).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Adds its digest to an object, and puts null for numbers that are not finite."""
    content = _finite(content)
    return {**content, DIGEST: _digest(content)}


def opened(text: str | bytes) -> dict[str, Any]:
    """The object in a text, without its digest.

    Raises:
      ValueError: if the text is no object, or the digest is not the object's.
    """
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
        if DIGEST not in content:
            raise ValueError("it has no digest, as those of early versions have none")
        if content.pop(DIGEST) != _digest(content):
            raise ValueError("its digest is not that of its content")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return content


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def _unreadable(path: Path, error: Exception) -> ConfigError:
    reason = error.strerror if isinstance(error, OSError) else error
    return ConfigError(
        f"cannot read {path} ({reason}); resjax doctor {path.parent} says what to do"
    )


def write_progress(directory: Path, progress: dict[str, Any]) -> None:
    """Writes how far a run is, for other processes to read."""
    write_text(directory / "progress.json", sealed_text(progress), durable=False)


def read_progress(directory: Path) -> dict[str, Any]:
    """Reads the progress that was written last; empty if it is missing or damaged."""
    try:
        return read_json(directory / "progress.json")
    except ConfigError:
        return {}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a file that is either whole or not there; numbers that are not finite become null."""
    write_text(path, sealed_text(content))


def sealed_text(content: dict[str, Any]) -> str:
    """Formats an object with its digest as JSON."""
    return json.dumps(sealed(content), indent=2, allow_nan=False) + "\n"


def write_lines(path: Path, contents: Iterable[dict[str, Any]]) -> None:
    """Writes a JSON lines file that is either whole or not there."""
    write_text(path, "".join(map(_line, contents)))


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Adds one object to a JSON lines file, in place of a last line whose writing was cut off."""
    with path.open("ab+") as file:
        _cut_last_line(file)
        file.write(_line(content).encode())


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Writes a file that is either whole or not there; `durable` even if the machine goes down."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    partial.replace(path)


def _line(content: dict[str, Any]) -> str:
    return json.dumps(sealed(content), allow_nan=False) + "\n"


def _cut_last_line(file: BinaryIO) -> None:
    """Cuts a file off after its last newline."""
    end = file.seek(0, os.SEEK_END)
    if not end:
        return
    file.seek(end - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
