"""What a run writes while it lasts, beside its checkpoints; only the first host does."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resjax.config import run_id
from resjax.models.summary import count_multiply_adds, count_parameters, variable_shapes
from resjax.training import hosts, rundir
from resjax.training.checkpoint import Facts
from resjax.training.events import WRITERS, Writer, as_arrays
from resjax.training.left_out import number_left_out
from resjax.training.manifest import describe_execution, describe_machine
from resjax.training.plan import Plan
from resjax.training.state import TrainState
from resjax.training.summary import Progress

SECONDS_BETWEEN_PROGRESS = 2.0
"""From one writing of `progress.json` to the next."""


@dataclasses.dataclass
class Position:
    """How far a run is, beside its training state: what is saved with every checkpoint.

    The fields are those of `resjax.training.checkpoint.Facts`.
    """

    step: int = 0
    evaluated: int = 0
    grown: bool = False
    lines: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best: dict[str, float] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: dict.fromkeys(("compile", "train", "eval"), 0.0)
    )

    def go_on_from(self, facts: Facts) -> None:
        """Takes the fields of a checkpoint."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(facts, field.name))


class Journal:
    """The files of a run that tell of it: metrics, times, events, progress and the manifest.

    Args:
      plan: of the run.
      directory: of the run.
      at: its position, which the run moves.
      observe: is told of the progress.
    """

    def __init__(
        self, plan: Plan, directory: Path, at: Position, observe: Callable[[Progress], None]
    ):
        self.plan, self.directory, self.at, self.observe = plan, directory, at, observe
        self.first = hosts.is_first()
        self.noted = dict(at.seconds)
        self.begun: dict[str, float] = {}
        self.shown = 0.0
        self.writers: list[Writer] = []
        variables = variable_shapes(plan.model, plan.image_shape)
        self.sizes = {
            "params": count_parameters(variables["params"]),
            "multiply_adds": count_multiply_adds(plan.model, plan.image_shape),
        }

    def begin(self) -> None:
        """Makes the files those of the position, whatever an attempt before left in them."""
        self.noted = dict(self.at.seconds)
        if self.first:
            rundir.write_lines(self.directory / "metrics.jsonl", self.at.lines)
            for name in self.plan.config.log.writers:
                self.writers.append(WRITERS[name](self.directory, self.plan.config))
                for line in self.at.lines:
                    self.writers[-1].add(line)
        self.note("begun")
        self.write_manifest()

    def close(self) -> None:
        """Ends the files."""
        for writer in self.writers:
            writer.close()

    def add(self, line: dict[str, Any], state: TrainState) -> None:
        """Adds an evaluation, which was of this state."""
        if self.first:
            rundir.append_line(self.directory / "metrics.jsonl", line)
        arrays = as_arrays(state.evaluated()) if self.plan.config.log.histograms else {}
        for writer in self.writers:
            writer.add(line)
            if arrays:
                writer.add_histograms(line["step"], arrays)
        self.note("evaluated")

    def note(self, event: str, why: str | None = None) -> None:
        """What happened when, and the seconds that were spent since the last note."""
        spent = {what: self.at.seconds[what] - self.noted[what] for what in self.at.seconds}
        self.noted = dict(self.at.seconds)
        line = {"event": event, "at": time.time(), "step": self.at.step, **spent}
        if self.first:
            reason = {"why": why} if why else {}
            rundir.append_line(self.directory / "timing.jsonl", line | reason)

    def tell(self, phase: str, loss: float | None, note: str | None = None) -> None:
        """Tells the observer how far the run is, and now and then who looks from outside."""
        per_epoch = len(self.plan.source.train) / self.plan.config.train.batch_size
        step, steps = self.at.step, self.plan.marks[-1]
        progress = Progress(phase, step, steps, step / per_epoch, steps / per_epoch, loss, note)
        self.observe(progress)
        now = time.time()
        if phase == "training" and not self.begun:
            self.begun = {"begun_at": now, "begun_step": step}
        if self.first and now - self.shown > SECONDS_BETWEEN_PROGRESS:
            self.shown = now
            rundir.write_progress(
                self.directory, {"at": now, **self.begun, **dataclasses.asdict(progress)}
            )

    def write_manifest(self, **more: Any) -> None:
        """Writes what runs; see `resjax.training.manifest`."""
        if not self.first:
            return
        config, source = self.plan.config, self.plan.source
        data = {
            "name": config.data.name,
            "fingerprint": source.fingerprint,
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
        rundir.write_json(self.directory / "manifest.json", manifest)
