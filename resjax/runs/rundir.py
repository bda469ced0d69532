"""A run on disk: how its files are written and read, and its state."""

import json
import stat
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from packaging.version import Version

import resjax
from resjax.config import ConfigError, config_of, defaults, differences, flatten
from resjax.config.keys import KEYS
from resjax.config.naming import deciding_keys, run_id
from resjax.runs import disk, files

DONE, FAILED, UNFINISHED, ABSENT = "done", "failed", "unfinished", "absent"

IMPORTED = "imported"
"""State of a directory with weights trained by another framework; no run takes place in it."""

ADDED_KEYS = "added_keys"
"""Field of a config with the keys that an experiment file has added to it; see `Keys.added`."""

ADDED_PARTS = "added_parts"
"""Field of a config with the parts that an experiment file has added to it; see `Keys.parts`."""

LAYOUT = 1
"""Version of a run's files; raised when an earlier version of resjax could misread them."""


def run_state(directory: Path) -> str:
    """The state of the run in a directory.

    DONE, FAILED (by itself), UNFINISHED (interrupted), IMPORTED (not of resjax), ABSENT (no run).
    """
    try:
        if not stat.S_ISREG((directory / files.CONFIG).stat().st_mode):
            return ABSENT
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except OSError as error:  # a name that is too long, for one
        raise ConfigError(f"{directory}: {error.strerror}; choose another directory") from None
    if (directory / files.ORIGIN).is_file():
        return IMPORTED
    if (directory / files.RESULT).is_file():
        return DONE
    return FAILED if (directory / files.ERROR).is_file() else UNFINISHED


def is_run(directory: Path) -> bool:
    """Tells whether a directory is a run's, or the remains of one."""
    return directory.is_dir() and any((directory / name).exists() for name in files.LEFT_BY_RUNS)


def runs_in(directory: Path) -> list[Path]:
    """The runs in a directory, by name, or the directory if it is a run; remains of runs count.

    Raises:
      ConfigError: if there is none.
    """
    below = sorted(filter(is_run, directory.glob("*/")))
    if run_state(directory) != ABSENT or (is_run(directory) and not below):
        return [directory]
    if not below:
        raise no_run(directory)
    return below


def no_run(directory: Path) -> ConfigError:
    """The error for a directory without runs: it names the sweeps in it, or what is beside it."""
    from resjax.config.paths import similar  # a refusal alone needs them
    from resjax.config.text import some

    sweeps = sorted({str(path.parents[1]) for path in directory.glob(f"*/*/{files.CONFIG}")})
    remedy = f"name one of the sweeps in it: {some(sweeps)}" if sweeps else ""
    if not directory.exists():
        remedy = similar(directory)
    return ConfigError(
        f"no run in {directory}; {remedy or 'start with resjax train or resjax sweep'}"
    )


def runs_below(directory: Path) -> list[Path]:
    """The directories in a directory that have the config of a run, by name."""
    return sorted(
        file.parent for file in directory.glob(f"*/{files.CONFIG}") if not _is_foreign(file)
    )


def _is_foreign(file: Path) -> bool:
    """Tells whether a config.json is whole and of another program, such as transformers."""
    try:
        said = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return not isinstance(said, dict) or "model.name" not in said


def has_lost_config(directory: Path) -> bool:
    """Tells whether a run's config is missing while other files of it exist."""
    return run_state(directory) == ABSENT and is_run(directory)


def refuse_no_config(directory: Path) -> None:
    """Raises ConfigError if a run has lost its config."""
    if has_lost_config(directory):
        raise ConfigError(
            f"{directory / files.CONFIG} is missing beside other files of a run; "
            f"resjax doctor {directory} says what to do"
        )


def begin_run(directory: Path, config: ConfigDict) -> None:
    """Makes an existing `directory` that of this config's run, or resumes it."""
    (directory / files.ERROR).unlink(missing_ok=True)
    if run_state(directory) == ABSENT:
        made_by, flat = {"layout": LAYOUT, "resjax": resjax.__version__}, flatten(config)
        made_by |= {ADDED_KEYS: added} if (added := KEYS.added(flat)) else {}
        made_by |= {ADDED_PARTS: parts} if (parts := KEYS.parts(flat)) else {}
        disk.write_json(directory / files.CONFIG, made_by | flat)
    for partial in partial_files(directory):
        partial.unlink(missing_ok=True)


def partial_files(directory: Path) -> list[Path]:
    """Incomplete files of processes that ended while writing."""
    return sorted(directory.glob(".*.partial"))


def make_directory(directory: Path) -> None:
    """Makes a writable directory.

    Raises:
      ConfigError: if it cannot be made, or written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory, prefix=".writable."):
            pass
    except OSError as error:
        raise ConfigError(
            f"cannot write to {directory}: {error.strerror}; "
            "make it writable, or choose another directory"
        ) from None


def refuse_other_config(directory: Path, config: ConfigDict) -> None:
    """Makes sure that a directory is free for a run, or already its own.

    Raises:
      ConfigError: if it holds the run of another config, naming the keys, or what is left of one;
        or a sweep; or if it lies in a run.
    """
    state = run_state(directory)
    if state == ABSENT:
        _refuse_mixed(directory)
        if (directory / files.RESULT).exists():  # which would be taken for that of this config
            refuse_no_config(directory)
        _refuse_other_remains(directory, config)
        return
    if state == IMPORTED:
        raise ConfigError(
            f"{directory} holds imported weights; start from them in another directory with "
            f"--config.train.init_from={directory}"
        )
    written = [defaults() | read_config(directory), defaults() | flatten(config)]
    decide = [defaults() | deciding_keys(each) for each in written]
    keys = [key for key in decide[0].keys() | decide[1] if decide[0].get(key) != decide[1].get(key)]
    there, here = ({key: each.get(key) for key in keys} for each in written)
    if differing := differences(there, here, "there", "here"):
        raise ConfigError(
            f"{directory} holds a run of another config ({differing}); choose another directory"
        )
    then, now = _read_config(directory).parts, KEYS.parts(flatten(config))
    for part in then.keys() & now.keys():
        if then[part] and now[part] and then[part] != now[part]:
            raise ConfigError(
                f"{directory} holds a run that was begun with other code of {part}; give that "
                "another name, or choose another directory"
            )


def _refuse_other_remains(directory: Path, config: ConfigDict) -> None:
    """Raises ConfigError if remains of a run without its config are of another config."""
    here = run_id(config)
    for path in (directory / files.MANIFEST, *directory.glob(files.ALL_FACTS)):
        try:
            there = disk.read_json(path).get("run")
        except ConfigError:  # there is none, or it is damaged and is not used
            continue
        if there is not None and there != here:
            raise ConfigError(
                f"{path} is of another run, {there}; choose another directory, or remove this one"
            )


def refuse_absent(path: Path, expected: str = "a run, or a file of weights") -> None:
    """Raises ConfigError, with what is expected, if a path does not exist."""
    if not path.exists():
        raise ConfigError(f"{path} does not exist; name {expected}")


def refuse_no_run(directory: Path) -> None:
    """Makes sure that a directory is a run, whatever its state.

    Raises:
      ConfigError: if it is not there, empty, or a sweep, of which it names a run.
    """
    if run_state(directory) != ABSENT:
        return
    if runs := runs_below(directory):
        raise ConfigError(f"{directory} is a sweep; name one of its runs, such as {runs[0]}")
    raise ConfigError(f"no run in {directory}; name the directory of a run")


def refuse_sweep(directory: Path) -> None:
    """Raises ConfigError for a run in a sweep's directory."""
    if runs := len(runs_below(directory)):
        raise ConfigError(
            f"{directory} is a sweep (runs so far: {runs}); give this run a directory of its "
            f"own, such as {directory}-one"
        )


def _refuse_mixed(directory: Path) -> None:
    """Raises ConfigError for a run in a sweep's directory, or below that of another run."""
    refuse_sweep(directory)
    if (directory.parent / files.CONFIG).exists():
        raise ConfigError(f"{directory.parent} is a run; choose a directory that is not in one")


def read_config(directory: Path) -> dict[str, Any]:
    """Reads {dotted key: value} of a run; keys newer than the run get today's defaults.

    Keys of an experiment file that is not loaded are there if they differ from their default.

    Raises:
      ConfigError: if it is missing, damaged, or of a later version of resjax.
    """
    content, added, _ = _read_config(directory)
    for key in added.keys() - KEYS.keys():
        if added[key]["decides"] != "result" or content[key] == added[key]["default"]:
            del content[key]
    return defaults() | content


def added_defaults(directory: Path) -> dict[str, Any]:
    """{dotted key: default} of the keys that an experiment file has added to a run's config."""
    return {key: entry["default"] for key, entry in _read_config(directory).keys.items()}


def rebuild_config(directory: Path) -> ConfigDict:
    """Rebuilds the config of a run, from which its network is built.

    Raises:
      ConfigError: as `read_config` does, and if an experiment file that is not loaded defines a
        key of it.
    """
    content, added, _ = _read_config(directory)
    return config_of(content, added)


class _Recorded(NamedTuple):
    """{dotted key: value} of a run, and the keys and parts that an experiment file had added."""

    content: dict[str, Any]
    keys: dict[str, dict[str, Any]]
    parts: dict[str, str]


def _read_config(directory: Path) -> _Recorded:
    path = directory / files.CONFIG
    content = disk.read_json(path)
    layout, made_by = content.pop("layout", 0), content.pop("resjax", "0")
    if layout > LAYOUT or Version(made_by) > Version(resjax.__version__):
        raise ConfigError(
            f"{path} is of resjax {made_by}, and this is {resjax.__version__}; use that version or "
            "a later one"
        )
    return _Recorded(content, content.pop(ADDED_KEYS, {}), content.pop(ADDED_PARTS, {}))


def write_result(directory: Path, result: dict[str, Any]) -> None:
    """Writes `result.json`, with the digest of `metrics.jsonl`, which finishes the run."""
    seal = {"metrics_sha256": disk.file_digest(directory / files.METRICS)}
    disk.write_json(directory / files.RESULT, result | seal)


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """Reads the evaluations of a run; those of a finished run must match its result.

    Raises:
      ConfigError: if the file is missing or damaged.
    """
    path, expected = directory / files.METRICS, None
    if run_state(directory) == DONE:
        expected = disk.read_json(directory / files.RESULT).get("metrics_sha256")
    if expected and disk.file_digest(path) == expected:
        return disk.read_known_lines(path)
    lines = disk.read_lines(path)
    if expected:
        raise disk.unreadable(path, ValueError(f"it is not that of {files.RESULT}"))
    return lines


def read_failure(directory: Path) -> str:
    """Reads why a run failed, with any traceback, from its `error.txt`."""
    try:
        return (directory / files.ERROR).read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        return f"{files.ERROR} cannot be read: {error.strerror}"


def write_progress(directory: Path, progress: dict[str, Any]) -> None:
    """Writes the progress of a run, for other processes to read."""
    disk.write_text(directory / files.PROGRESS, disk.sealed_text(progress), durable=False)


def read_progress(directory: Path) -> dict[str, Any]:
    """Reads the latest progress; empty if it is missing or damaged."""
    try:
        return disk.read_json(directory / files.PROGRESS)
    except ConfigError:
        return {}
