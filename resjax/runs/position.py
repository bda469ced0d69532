"""The position of a run: its progress, apart from its training state."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, Self


@dataclasses.dataclass(kw_only=True)
class Position:
    """The progress of a run, which a checkpoint holds in full.

    Attributes:
      step: number of steps taken.
      evaluated: steps that had been taken at the last evaluation; 0 before the first.
      grown: whether the network is the deep one already, if the run grows one.
      lines: the lines of `metrics.jsonl`.
      best: fields of the best evaluation, as in a summary; empty if none is selected.
      seconds: {"compile", "train", "eval"}, the seconds spent until then.
    """

    step: int
    evaluated: int
    grown: bool
    lines: list[dict[str, Any]]
    best: dict[str, Any]
    seconds: dict[str, float]

    @classmethod
    def start(cls) -> Self:
        """The position before the first step."""
        seconds = dict.fromkeys(("compile", "train", "eval"), 0.0)
        return cls(step=0, evaluated=0, grown=False, lines=[], best={}, seconds=seconds)

    @property
    def place(self) -> tuple[int, int, bool]:
        """The step, the last evaluation, and whether the network has grown: which state it is."""
        return self.step, self.evaluated, self.grown

    def go_on_from(self, other: "Position") -> None:
        """Copies the values of another position."""
        for field in dataclasses.fields(Position):
            setattr(self, field.name, getattr(other, field.name))

    def pass_evaluation(self, line: dict[str, Any], select: str, grow_at: int | None) -> bool:
        """Records an evaluation; returns whether it is the best so far.

        Args:
          line: that of `metrics.jsonl`.
          select: `eval.select`; only with "best" an evaluation is the best.
          grow_at: step after whose evaluation the network is the deep one.
        """
        before = self.best
        if select == "best":
            self.best = _better(before, line)
        self.lines.append(line)
        self.evaluated = self.step
        self.grown = self.grown or self.step == grow_at
        return self.best != before

    def last_evaluation(self, splits: Iterable[str]) -> dict[str, Any]:
        """Errors and losses of the last line, NaN for null, a number that was not finite."""
        names = [f"{split}_{what}" for split in splits for what in ("error", "loss")]
        values = {name: self.lines[-1][name] for name in names}
        return {name: math.nan if value is None else value for name, value in values.items()}


def _better(best: dict[str, Any], line: dict[str, Any]) -> dict[str, Any]:
    """The evaluation with the lower validation error, or the first, as fields of a summary."""
    if best and best["best_validation_error"] <= line["validation_error"]:
        return best
    names = (f"{split}_error" for split in ("train", "validation", "test"))
    errors = {f"best_{name}": line[name] for name in names if name in line}
    return {"best_step": line["step"], **errors}
