"""The progress of a run, its result, and its outcome in a sweep."""

import dataclasses
import math
from pathlib import Path
from typing import Any

from resjax.config import ConfigError
from resjax.runs import disk, files


@dataclasses.dataclass(frozen=True)
class Progress:
    """The progress of a run, reported to the observer of `train_and_evaluate` a few times a second.

    Attributes:
      phase: compiling, training or evaluating.
      step, steps: steps taken, and in all.
      epoch, epochs: the same in passes over the training set.
      loss: mean over the training batches since the last evaluation, None before the first.
      note: a line that a person should see, such as that the run goes on from a checkpoint.
    """

    phase: str
    step: int
    steps: int
    epoch: float
    epochs: float
    loss: float | None
    note: str | None = None


@dataclasses.dataclass(frozen=True)
class Summary:
    """The result of a run, as in `result.json`.

    Attributes:
      train_error, train_loss, test_error, test_loss: results of a clean evaluation of the whole
        split after the last step; errors are fractions, losses means over examples. The loss of a
        network that has diverged is not finite, which is null in the file and NaN here.
      params: number of parameters.
      multiply_adds: multiply-adds of a forward pass of one image.
      steps: training steps taken.
      seconds: {"compile", "train", "eval"}, as `resjax.runs.ledger.TIMES` says; of a run that was
        interrupted, those that count: without what was lost, and compiled once.
      validation_error, validation_loss: the same of the validation split, if there is one.
      selection: evaluation that is the run's answer, as `eval.select` says: final, or best, that
        with the lowest validation error (the first such).
      best_step: steps taken at the best evaluation; all with `best_` are None unless selected.
      best_train_error, best_validation_error, best_test_error: errors of the best evaluation.
      statistics: the same errors and losses by the statistics that BatchNorm used, {"batch",
        "running", "precise"}; None unless precise ones were measured.
      skipped_updates: steps whose loss or gradient was not finite, with `train.on_nan=skip`.
    """

    train_error: float
    train_loss: float
    test_error: float
    test_loss: float
    params: int
    multiply_adds: int
    steps: int
    seconds: dict[str, float]
    validation_error: float | None = None
    validation_loss: float | None = None
    selection: str = "final"
    best_step: int | None = None
    best_train_error: float | None = None
    best_validation_error: float | None = None
    best_test_error: float | None = None
    statistics: dict[str, dict[str, float]] | None = None
    skipped_updates: int | None = None

    @property
    def in_all(self) -> float:
        """Seconds of compile, train and eval together."""
        return sum(self.seconds.values())

    def recorded(self) -> dict[str, Any]:
        """Fields of this run, without those that are None."""
        fields = dataclasses.asdict(self)
        return {key: value for key, value in fields.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of a run in a sweep: a summary, or the error that stopped it.

    `skipped` is true if it had ended before this sweep, or by another process.
    """

    directory: Path
    summary: Summary | None
    error: str | None = None
    skipped: bool = False


def read_summary(directory: Path) -> Summary:
    """The result of a finished run; fields unknown to this version are left out.

    A null is NaN, as it was a number that is not finite: `recorded` leaves out what is None.

    Raises:
      ConfigError: if it is damaged.
    """
    path = directory / files.RESULT
    content = disk.read_json(path)
    fields = dataclasses.fields(Summary)
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    if missing := ", ".join(sorted(needed - content.keys())):
        raise ConfigError(f"{path} lacks {missing}; remove its directory to run it again")
    known = {field.name for field in fields}
    return Summary(**{key: _number(value) for key, value in content.items() if key in known})


def _number(value: Any) -> Any:
    """A value of the file, with NaN for null."""
    if isinstance(value, dict):
        return {key: _number(own) for key, own in value.items()}
    return math.nan if value is None else value
