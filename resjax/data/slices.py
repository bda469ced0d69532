"""Slices of splits, in the syntax of TFDS: train, train[:45000], train[10%:90%], train[-500:]."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from resjax.config import ConfigError, nearest
from resjax.data.source import Source, Split

EXAMPLES = "train, train[:45000], train[-500:] or train[10%:90%]"

_SLICE = re.compile(r"([\w-]+)(?:\[(?:(-?[\d_.]+)(%?))?:(?:(-?[\d_.]+)(%?))?\])?")


class Splits(NamedTuple):
    """A slice for each split of a source; an empty text is its own split, or no validation."""

    train: str = ""
    validation: str = ""
    test: str = ""


class Slice(NamedTuple):
    """From a boundary to another of a split; None is its end, a negative one counts from there.

    Attributes:
      text: as it is written.
      name: of the split.
      start, stop: numbers of examples, or percents of them.
      percent: what they are.
    """

    text: str
    name: str
    start: float | None
    stop: float | None
    percent: bool

    def range(self, examples: int) -> range:
        """The examples that it takes from a split of so many.

        A percent p of n examples is the whole number closest to p n / 100, halves to the even one.

        Raises:
          ConfigError: if they are none, or a boundary is outside of the split.
        """
        start = 0 if self.start is None else self._boundary(self.start, examples)
        stop = examples if self.stop is None else self._boundary(self.stop, examples)
        if start >= stop:
            raise ConfigError(
                f"slice {self.text!r} is empty: {start} to {stop} of the {examples} examples in "
                f"{self.name!r}; such as {self.name}[:90%]"
            )
        return range(start, stop)

    def _boundary(self, value: float, examples: int) -> int:
        number = round(value * examples / 100.0) if self.percent else int(value)
        if abs(number) > examples:
            raise ConfigError(
                f"slice {self.text!r} has a boundary outside of the {examples} examples in "
                f"{self.name!r}; such as {self.name}[:90%]"
            )
        return number + examples if number < 0 else number


def parse(text: str) -> Slice:
    """The slice that a text means.

    Raises:
      ConfigError: if it is none.
    """
    match = _SLICE.fullmatch(text)
    try:
        name, start, start_unit, stop, stop_unit = match.groups()
        units = {unit for value, unit in ((start, start_unit), (stop, stop_unit)) if value}
        if "[" in text and len(units) != 1:
            raise ValueError
        percent = units == {"%"}
        number = float if percent else int
        boundaries = [None if value is None else number(value) for value in (start, stop)]
    except (AttributeError, ValueError):
        raise ConfigError(f"{text!r} is no slice of a split; write {EXAMPLES}") from None
    return Slice(text, name, *boundaries, percent)


class Part(NamedTuple):
    """The examples that are read of a split."""

    split: str
    range: range


def resolve(
    splits: Splits,
    lengths: Mapping[str, int],
    own_test: Sequence[str] = ("test", "validation", "val"),
) -> dict[str, Part]:
    """What is read as `train`, `test` and, if it is named, `validation`.

    Args:
      splits: what is asked for.
      lengths: the examples in each split that there is.
      own_test: names of the split to test on, if `splits` names none; the first that there is.

    Raises:
      ConfigError: for a text that is no slice, no split or no example, and if two share examples.
    """
    texts = splits._asdict()
    texts["train"] = splits.train or "train"
    texts["test"] = splits.test or next((name for name in own_test if name in lengths), "")
    if not texts["test"]:
        raise ConfigError(
            f"there is no split to test on, only {', '.join(lengths)}; "
            "write data.train='train[:90%]' and data.test='train[90%:]'"
        )
    parts = {}
    for key in ("train", "test", "validation"):
        if text := texts[key]:
            part = parse(text)
            if part.name not in lengths:
                remedy = nearest(part.name, list(lengths))
                raise ConfigError(f"data.{key}={text!r} is of an unknown split; {remedy}")
            parts[key] = Part(part.name, part.range(lengths[part.name]))
    _refuse_shared(parts, texts)
    return parts


def _refuse_shared(parts: Mapping[str, Part], texts: Mapping[str, str]) -> None:
    """What is tested on must not have been trained on."""
    for first, second in (("train", "test"), ("train", "validation"), ("test", "validation")):
        if first not in parts or second not in parts or parts[first].split != parts[second].split:
            continue
        one, other = parts[first].range, parts[second].range
        shared = min(one.stop, other.stop) - max(one.start, other.start)
        if shared > 0:
            raise ConfigError(
                f"data.{first}={texts[first]!r} and data.{second}={texts[second]!r} share "
                f"{shared} examples; cut them apart, such as train[:90%] and train[90%:]"
            )


def cut(source: Source, splits: Splits) -> Source:
    """A source in memory with slices of its splits instead of them.

    Raises:
      ConfigError: as `resolve` does.
    """
    whole = {"train": source.train, "test": source.test, "validation": source.validation}
    whole = {name: split for name, split in whole.items() if split is not None}
    parts = resolve(splits, {name: len(split) for name, split in whole.items()})
    arrays = {}
    for key, part in parts.items():
        of, taken = whole[part.split], slice(part.range.start, part.range.stop)
        arrays[key] = Split(of.images[taken], of.labels[taken])
    return Source(class_names=source.class_names, **arrays)
