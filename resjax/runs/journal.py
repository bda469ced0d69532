"""The journal of a run: what its first host writes during the run, besides checkpoints."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resjax.config import ConfigError
from resjax.config.naming import run_id
from resjax.runs import disk, files, rundir
from resjax.runs.events import WRITERS, Writer, as_arrays
from resjax.runs.left_out import number_left_out
from resjax.runs.manifest import describe_execution, describe_machine
from resjax.runs.position import Position
from resjax.runs.summary import Progress
from resjax.training import hosts
from resjax.training.plan import Plan
from resjax.training.state import TrainState

SECONDS_BETWEEN_PROGRESS = 2.0
"""Minimum seconds between two writes of `progress.json` in one phase."""


class Journal:
    """The files that record a run: metrics, times, events, progress and manifest.

    Args:
      plan: plan of the run.
      directory: directory of the run.
      at: its position, which the run moves.
      observe: called with the progress.
    """

    def __init__(
        self, plan: Plan, directory: Path, at: Position, observe: Callable[[Progress], None]
    ):
        self.plan, self.directory, self.at, self.observe = plan, directory, at, observe
        self.first = hosts.is_first()
        self.spent = dict.fromkeys(at.seconds, 0.0)  # seconds counted since the last note
        self.timed_now: tuple[str, float, float] | None = None  # what, its share, counted until
        self.clock = threading.Lock()  # a rescue is on a thread of its own
        self.noted_at: float | None = None
        self.left_by_last = rundir.read_progress(directory)
        self.begun_before = (directory / files.TIMING).exists()
        self.begun: dict[str, float] = {}
        self.shown, self.phase = 0.0, ""  # when `progress.json` was written, and its phase
        self.writers: list[Writer] = []
        params, multiply_adds = plan.sizes
        self.sizes = {"params": params, "multiply_adds": multiply_adds}

    def begin(self) -> None:
        """Makes the files consistent with the position, whatever an earlier attempt left."""
        if self.first:
            disk.mend_lines(self.directory / files.TIMING, {"event": "damaged"})
            self._note_death()
            disk.write_lines(self.directory / files.METRICS, self.at.lines)
            for name in self.plan.config.log.writers:
                writer = WRITERS[name](self.directory, self.plan.config, self.at.lines)
                self.writers.append(writer)
        self.note("begun", devices=self.plan.parallel.count)
        self.write_manifest()

    def end(self) -> None:
        """Records that the run is done, and seals its files in the manifest."""
        self.note("done")
        names = (files.TIMING, files.WEIGHTS) if self.first else ()
        seals = {name: disk.seal(self.directory / name) for name in names}
        self.write_manifest(seconds=self.at.seconds, files=seals)

    def close(self) -> None:
        """Closes the files."""
        for writer in self.writers:
            writer.close()

    def add(self, line: dict[str, Any], state: TrainState) -> None:
        """Adds the line of an evaluation, which was of this state."""
        if self.first:
            disk.append_line(self.directory / files.METRICS, line)
        arrays = as_arrays(state.evaluated()) if self.plan.config.log.histograms else {}
        for writer in self.writers:
            writer.add(line)
            if arrays:
                writer.add_histograms(line["step"], arrays)
        self.note("evaluated")

    def note(self, event: str, **more: Any) -> None:
        """Records an event: its time, the seconds since the last, and those that count so far.

        Seconds count if the result tells of them. Those that an attempt took after the checkpoint
        from which the next one goes on were spent and do not count, nor do those of starting again.
        So all that were spent less those that count are lost to interruptions; see
        `resjax.runs.ledger`.
        """
        with self.clock:
            spent = self._spent_until_now() if event == "stopped" else self.spent
            self.spent = dict.fromkeys(spent, 0.0)
            self.noted_at = time.time()
        line = {"event": event, "at": self.noted_at, "step": self.at.step, **spent}
        if self.first:
            counted = sum(self.at.seconds.values())
            disk.append_line(self.directory / files.TIMING, line | {"counted": counted} | more)

    def _note_death(self) -> None:
        """Records what the previous attempt spent after its last record, if it was killed.

        It is known up to its last report of progress; the attempt may have lived longer.
        """
        last = self.left_by_last
        if not last.get("noted_at"):
            return
        try:
            line = (disk.read_lines(self.directory / files.TIMING) or [{}])[-1]
        except ConfigError:  # there is none
            return
        if line.get("at") == last["noted_at"] and line["event"] != "stopped":
            seen = {"event": "killed", "at": last["at"], "step": last["step"], **last["spent"]}
            disk.append_line(self.directory / files.TIMING, seen | {"counted": line["counted"]})

    def report_progress(self, phase: str, loss: float | None, note: str | None = None) -> None:
        """Reports the progress to the observer and, at times, in `progress.json`.

        That a phase has begun is written at once, as it may be long until the next report.
        """
        per_epoch = len(self.plan.source.train) / self.plan.config.train.batch_size
        step, steps = self.at.step, self.plan.marks[-1]
        progress = Progress(phase, step, steps, step / per_epoch, steps / per_epoch, loss, note)
        self.observe(progress)
        now = time.time()
        if phase == "training" and not self.begun:
            self.begun = {"begun_at": now, "begun_step": step}
        due = phase != self.phase or now - self.shown > SECONDS_BETWEEN_PROGRESS
        if self.first and due:
            self.shown, self.phase = now, phase
            with self.clock:
                unnoted = {"noted_at": self.noted_at, "spent": self._spent_until_now()}
            progress_now = {"at": now, **self.begun, **unnoted, **dataclasses.asdict(progress)}
            rundir.write_progress(self.directory, progress_now)

    def write_manifest(self, **more: Any) -> None:
        """Writes `manifest.json`; see `resjax.runs.manifest`."""
        if not self.first:
            return
        config, source = self.plan.config, self.plan.source
        data = {
            "name": config.data.name,
            "fingerprint": source.fingerprint,
            "classes": len(source.class_names),
            **{name: len(split) for name, split in source.splits.items()},
            **number_left_out(self.directory),
        }
        manifest = {
            "run": run_id(config),
            **describe_machine(),
            "batch_norm_examples": self.plan.batch_norm_examples,
            "execution": describe_execution(self.plan),
            "data": data,
            **self.sizes,
            **more,
        }
        disk.write_json(self.directory / files.MANIFEST, manifest)

    @contextmanager
    def timed(self, what: str, share: float) -> Iterator[None]:
        """Counts a share of the seconds spent in the block, when it ends.

        Runs that are trained side by side share them.
        """
        self.timed_now = what, share, time.monotonic()
        try:
            yield
        finally:
            self.count(what)
            self.timed_now = None

    def count(self, what: str) -> None:
        """Adds the seconds until now to those of the position, if this is being timed."""
        with self.clock:
            if self.timed_now is None or self.timed_now[0] != what:
                return
            _, share, until = self.timed_now
            now = time.monotonic()
            self.timed_now = what, share, now
            self.at.seconds[what] += share * (now - until)
            self.spent[what] += share * (now - until)

    def _spent_until_now(self) -> dict[str, float]:
        """Seconds spent since the last record, including what is being timed."""
        if self.timed_now is None:
            return dict(self.spent)
        what, share, until = self.timed_now
        return self.spent | {what: self.spent[what] + share * (time.monotonic() - until)}
