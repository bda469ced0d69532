"""The runs below a directory, as found on disk."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from resjax.config import ConfigError
from resjax.config.naming import deciding_keys
from resjax.runs import disk, files, rundir
from resjax.runs.ledger import Ledger, read_ledger
from resjax.runs.summary import Summary, read_summary

WITHOUT_CONFIG = "without its config"
"""State of a run of which nothing is known."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
      name: name of its directory.
      config: {dotted key: value}.
      keys: keys of `config` that decide the result and differ from their defaults.
      summary: its result.
      curve: the lines of `metrics.jsonl`.
      manifest: content of `manifest.json`.
      ledger: its cost; None if that is not known.
      probes: {probe: {array: values}} at its last evaluation, in lists.
    """

    name: str
    config: dict[str, Any]
    keys: dict[str, Any]
    summary: Summary
    curve: list[dict[str, Any]]
    manifest: dict[str, Any]
    ledger: Ledger | None = None
    probes: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.config["seed"]

    @property
    def depth(self) -> int:
        """Number of weighted layers."""
        return self.config["model.depth"]

    @property
    def shortcut(self) -> str:
        """Key of `SHORTCUTS` that the run has."""
        return self.config["model.shortcut"]

    def seconds(self, *of: str) -> float:
        """Seconds spent on "compile", "train" or "eval", or in total if none is named."""
        spent = self.summary.seconds
        return sum(spent.get(what, 0.0) for what in of) if of else self.summary.in_all

    def examples(self, split: str) -> int | None:
        """Examples of "train" or "test" that errors are counted over; None if not recorded."""
        data = self.manifest.get("data")
        counted = [data.get(split)] if isinstance(data, dict) else []
        if split == "train":
            counted.append(self.config["eval.train_examples"])
        return min((number for number in counted if number), default=None)


@dataclasses.dataclass(frozen=True)
class Missing:
    """A run without a result: its state, why it failed, and otherwise the fields of a `Run`.

    The state is that of `resjax.runs.status.Status`, or `WITHOUT_CONFIG` if the file of its config
    is gone; then the config is empty.
    """

    name: str
    state: str
    config: dict[str, Any]
    keys: dict[str, Any]
    reason: str = ""
    ledger: Ledger | None = None


def read_runs(workdir: Path) -> tuple[list[Run], list[Missing]]:
    """Reads the runs below a directory: the finished ones, and the others.

    A directory that is a run itself is read as that run. A run of an earlier version may lack a
    manifest or a curve.

    Raises:
      ConfigError: if a file of a run is damaged, or two directories hold the same run.
    """
    below = sorted(path for path in workdir.iterdir() if path.is_dir()) if workdir.is_dir() else []
    no_runs = (rundir.ABSENT, rundir.IMPORTED)
    found = [path for path in below if rundir.run_state(path) not in no_runs] or [workdir]
    runs: dict[Path, Run | Missing] = {}
    directories: dict[str, Path] = {}
    for directory in found:
        state = rundir.run_state(directory)
        if state in no_runs:
            continue
        run = runs[directory] = _read_run(directory, state)
        other = directories.setdefault(json.dumps(run.keys, sort_keys=True), directory)
        if other != directory:
            raise ConfigError(f"{directory} and {other} hold the same run; remove one of them")
    known = {key for run in runs.values() for key in run.config}
    for directory, run in runs.items():
        if known - run.config.keys():  # an experiment file that is not loaded has added some
            run.config.update(rundir.added_defaults(directory) | run.config)
    missing = [_without_config(path) for path in (*below, *found) if rundir.has_lost_config(path)]
    missing += [run for run in runs.values() if isinstance(run, Missing)]
    return [run for run in runs.values() if isinstance(run, Run)], missing


def _read_run(directory: Path, state: str) -> Run | Missing:
    """Reads a run in one of the states that have a config."""
    config = rundir.read_config(directory)
    known = {
        "name": directory.resolve().name,
        "config": config,
        "keys": deciding_keys(config),
        "ledger": read_ledger(directory),
    }
    if state != rundir.DONE:
        from resjax.runs.status import look  # a run without a result alone needs it

        reason = rundir.read_failure(directory) if state == rundir.FAILED else ""
        return Missing(**known, state=look(directory).state, reason=reason)
    curve, manifest = directory / files.METRICS, directory / files.MANIFEST
    return Run(
        **known,
        summary=read_summary(directory),
        curve=rundir.read_metrics(directory) if curve.exists() else [],
        manifest=disk.read_json(manifest) if manifest.exists() else {},
        probes=_read_probes(directory / files.PROBES),
    )


def _read_probes(path: Path) -> dict[str, dict[str, Any]]:
    """The probes in the last line of a file; {} if the run recorded none."""
    last = disk.read_lines(path)[-1:] if path.exists() else []
    return {probe: arrays for line in last for probe, arrays in line.items() if probe != "step"}


def _without_config(directory: Path) -> Missing:
    reason = f"config.json is missing; resjax doctor {directory} says what to do"
    return Missing(directory.name, WITHOUT_CONFIG, {}, {}, reason)
