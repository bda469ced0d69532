"""Diagnosis of the runs in a directory: their faults, and advice."""

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from resjax.config import ConfigError
from resjax.runs import checkpoint, claims, disk, files, matching, rundir, status, weights
from resjax.runs.summary import read_summary

DAMAGED = "damaged"


@dataclasses.dataclass(frozen=True)
class Finding:
    """The state of a run on disk.

    Attributes:
      directory: directory of the run.
      state: that of `resjax.runs.status.Status`, or damaged: a file is not what was written, or
        holds numbers that no network can have.
      step: number of steps at the last event that was noted; None before the first.
      age: seconds since that event.
      why: reason why it is not done; empty if it is.
      size: bytes of all files.
      whole: names of the checkpoints that verify, the newest first.
      damaged: a line for each checkpoint that does not, with the remedy.
      partial: files and directories left by processes that ended while they wrote; nobody ever
        reads them.
      advice: advice on what to do; empty if there is nothing to do.
    """

    directory: Path
    state: str
    step: int | None
    age: float | None
    why: str
    size: int
    whole: list[str]
    damaged: list[str]
    partial: list[Path]
    advice: str


def examine_all(directory: Path) -> list[Finding]:
    """Examines the runs in a directory, sorted by name, or the directory if it is a run itself.

    Raises:
      ConfigError: if there is none.
    """
    return [examine(run) for run in rundir.runs_in(directory)]


def examine(run: Path) -> Finding:
    """Reads and verifies all files of a run, without changes; it may be at work."""
    owner = claims.owner(run)
    whole, damaged = [], []
    for path in checkpoint.completed(run):
        try:
            checkpoint.verified(path)
            whole.append(path.name)
        except checkpoint.Damaged as error:
            if checkpoint.is_partial(path):  # the run has begun to remove it meanwhile
                continue
            remedy = "" if owner else f"; remove {path}, which nothing needs"
            damaged.append(f"checkpoint {path.name}: {error}{remedy}")
    last, recorded, state = _last_event(run), rundir.run_state(run), status.look(run).state
    if owner:
        why, advice = f"{owner} is at work on it", ""
    elif complaint := _complaint(run, recorded):
        why, advice = str(complaint[1]).partition("; ")[0], _mend(run, recorded, *complaint, whole)
        state = DAMAGED
    else:
        why, advice = _describe(run, recorded, last, whole)
    return Finding(
        directory=run,
        state=state,
        step=last.get("step"),
        age=max(0.0, time.time() - last["at"]) if "at" in last else None,
        why=why,
        size=_size(run),
        whole=whole,
        damaged=damaged,
        partial=[] if owner else _partial(run),
        advice=advice,
    )


def repair(finding: Finding) -> list[Path]:
    """Removes partial files and checkpoints only; returns their paths.

    Raises:
      Claimed: if the run has been started meanwhile.
    """
    if not finding.partial:
        return []
    with claims.claimed(finding.directory):
        # Another process may have removed some since, or a run may have completed them.
        partial = [path for path in _partial(finding.directory) if path in finding.partial]
        for path in partial:
            (shutil.rmtree if path.is_dir() else Path.unlink)(path)
    return partial


def _partial(run: Path) -> list[Path]:
    """The checkpoints and files of a run that are not complete."""
    return [*filter(checkpoint.is_partial, checkpoint.found(run)), *rundir.partial_files(run)]


def _size(run: Path) -> int:
    """Bytes of all files, but for those that are removed while they are counted."""
    size = 0
    for directory, _, names in os.walk(run):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.stat(os.path.join(directory, name)).st_size
    return size


def _complaint(run: Path, state: str) -> tuple[str, ConfigError] | None:
    """The first file of a run that cannot be trusted, and what is wrong; None if all can be."""
    for file, check in _checks(run, state):
        try:
            check()
        except ConfigError as error:
            return file, error
    return None


def _checks(run: Path, state: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """The checks of the files of a run, by the name of the file; each needs those before it.

    A check raises ConfigError if the file is damaged, or if it is missing and the state needs it.
    """
    yield files.CONFIG, lambda: rundir.read_config(run)
    for file in (files.MANIFEST, files.LEFT_OUT, files.ORIGIN, files.RESULT):
        if (run / file).exists():
            yield file, partial(disk.read_json, run / file)
    if (run / files.RESULT).exists():
        yield files.RESULT, lambda: read_summary(run)
        yield files.METRICS, lambda: rundir.read_metrics(run)
    for file in (files.METRICS, files.TIMING, files.PROBES):
        if (run / file).exists():
            yield file, partial(disk.read_lines, run / file)
    if state == rundir.DONE:
        yield files.PROBES, lambda: _refuse_cut(run / files.PROBES)
    sealed = {}
    if state == rundir.DONE and "metrics_sha256" in disk.read_json(run / files.RESULT):
        # A result without it is of an early version, which may have sealed no files.
        yield files.MANIFEST, lambda: disk.read_json(run / files.MANIFEST)
        sealed = disk.read_json(run / files.MANIFEST).get("files", {})
    for file in sealed:
        if (run / file).exists():  # timing.jsonl may be gone; see `_mend`
            yield file, partial(disk.refuse_other_file, run / file, sealed[file])
    if files.WEIGHTS in sealed or state == rundir.IMPORTED or (run / files.WEIGHTS).exists():
        what = str(run / files.WEIGHTS)
        yield files.WEIGHTS, lambda: matching.refuse_broken(weights.read_tensors(run), what)


def _refuse_cut(path: Path) -> None:
    """Raises ConfigError if a file's last line is truncated, as only an unfinished run's may be."""
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        raise ConfigError(f"cannot read {path} (its last line is cut off)")


def _last_event(run: Path) -> dict:
    try:
        return (disk.read_lines(run / files.TIMING) or [{}])[-1]
    except ConfigError:
        return {}


def _mend(run: Path, state: str, file: str, error: ConfigError, whole: list[str]) -> str:
    """Advice on a damaged or missing file."""
    if isinstance(error, matching.Broken):
        return "train it again with a lower optim.learning_rate, or import weights that are whole"
    if state == rundir.IMPORTED:
        return f"remove {run} and import it again"
    if file == files.PROBES:
        return f"remove {run / files.PROBES}: resjax probe can measure a checkpoint instead"
    if file == files.TIMING and state != rundir.UNFINISHED:
        return f"remove {run / file}: it only records what the run has cost"
    if file != files.CONFIG and whole and state == rundir.DONE:
        return f"remove {run / files.RESULT} and start it again: checkpoint {whole[0]} is whole"
    if file != files.CONFIG and state == rundir.UNFINISHED:
        return f"start it again: {_from(whole)}, and writes the file again"
    return f"remove {run} and start it again"


def _from(whole: list[str]) -> str:
    return f"it resumes from checkpoint {whole[0]}" if whole else "it starts from the beginning"


def _describe(run: Path, state: str, last: dict, whole: list[str]) -> tuple[str, str]:
    """The reason why a run is not done, and advice."""
    if state == rundir.IMPORTED:
        return "holds imported weights", ""
    if state == rundir.FAILED:
        remedy = "start it again with --retry, or change its config for another run"
        return rundir.read_failure(run), remedy
    if state == rundir.UNFINISHED:
        why = "ended without a message: it was killed, or the machine went down"
        if last.get("event") == "stopped":
            why = f"stopped: {last.get('why', 'by a signal')}"
        return why, f"start it again: {_from(whole)}"
    return "", ""
