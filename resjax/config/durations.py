"""Durations: steps, epochs, examples, or a share of the run."""

import dataclasses
import math
import re
from fractions import Fraction
from typing import Any

from resjax.config import ConfigError

MOST_STEPS = 10**8


@dataclasses.dataclass(frozen=True)
class Clock:
    """Converts durations to steps.

    Attributes:
      epoch_examples: examples in an epoch.
      batch_size: examples in a step.
      total_steps: steps of the whole run; None if they are not known yet.
    """

    epoch_examples: int
    batch_size: int
    total_steps: int | None = None

    @property
    def end(self) -> int:
        """The steps of the whole run.

        Raises:
          ValueError: if they are not known yet.
        """
        if self.total_steps is None:
            raise ValueError(f"{self} knows no length of the run; make one with total_steps")
        return self.total_steps

    def steps(self, duration: str, times: int = 1) -> int:
        """The steps in `times` times a duration: "15 epochs", "64000 steps", "1e6 examples", "50%".

        They are rounded up, so that n epochs see every example at least n times.

        >>> clock = Clock(epoch_examples=50_000, batch_size=128, total_steps=64_000)
        >>> clock.steps("1 epoch"), clock.steps("50%"), clock.steps("1e6 examples")
        (391, 32000, 7813)

        Raises:
          ConfigError: if the text is not a duration, a share of a run of unknown length, or more
            than `MOST_STEPS`.
        """
        number, unit = parse_duration(duration)
        if unit == "%" and self.total_steps is None:
            raise ConfigError(f"duration {duration!r} is a share of itself; use steps or epochs")
        steps_per = {
            "step": Fraction(1),
            "epoch": Fraction(self.epoch_examples, self.batch_size),
            "example": Fraction(1, self.batch_size),
            "%": Fraction(self.total_steps or 0, 100),
        }
        steps = math.ceil(number * times * steps_per[unit])
        if steps > MOST_STEPS:
            raise ConfigError(f"duration {duration!r} is {steps} steps; the most are {MOST_STEPS}")
        return steps

    def marks(self, every: str) -> list[int]:
        """The steps at which each interval of `every` ends, including the last step.

        >>> Clock(epoch_examples=1437, batch_size=64, total_steps=60).marks("1 epoch")
        [23, 45, 60]
        """
        if self.steps(every) < 1:
            raise ConfigError(f"interval {every!r} is empty; use '1 step' or more")
        marks: list[int] = []
        while (step := self.steps(every, len(marks) + 1)) < self.end:
            marks.append(step)
        return sorted({*marks, self.end})


_DURATION = re.compile(r"(\d+(?:\.\d+)?(?:e\d{1,2})?)\s*(?:(step|epoch|example)s?|(%))")


def parse_duration(text: Any) -> tuple[Fraction, str]:
    """Parses a duration to its number and its unit: `step`, `epoch`, `example` or `%`.

    >>> parse_duration("1.5 epochs")
    (Fraction(3, 2), 'epoch')

    Raises:
      ConfigError: if the text is not a duration.
    """
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ConfigError(
            f"duration {text!r} is not understood; "
            "write '15 epochs', '64000 steps', '1e6 examples' or '50%'"
        )
    return Fraction(match[1]), match[2] or match[3]
