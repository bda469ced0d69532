"""Slices of splits, in the syntax of TFDS: train, train[:45000], train[10%:90%], train[-500:]."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from resjax.config import ConfigError, nearest
from resjax.data.source import Source, Split

EXAMPLES = "train, train[:45000], train[-500:] or train[10%:90%]"

_SLICE = re.compile(r"([\w-]+)(?:\[(?:(-?[\d_.]+)(%?))?:(?:(-?[\d_.]+)(%?))?\])?")


OWN_TEST = ("test", "validation", "val", "valid")
"""Splits to test on by default: the first of these that a source has."""


class Splits(NamedTuple):
    """A slice for each split of a source; an empty text is the default, or no validation split.

    Attributes:
      train, validation, test: the slices as texts.
      test_only: whether nothing is trained: `test` alone is read, and stands for `train` as well.
        If there is no split to test on, it is all of `train`.
      trained: whether `test_only` is for a network that was trained on the source's own split.
    """

    train: str = ""
    validation: str = ""
    test: str = ""
    test_only: bool = False
    trained: bool = False


class Slice(NamedTuple):
    """Consecutive examples of a split, between two boundaries.

    Attributes:
      text: the slice as it is written.
      name: the name of the split.
      start, stop: boundaries, in examples or percents of them; a negative one counts from the end,
        None is the start or the end of the split.
      percent: whether the boundaries are percents.
    """

    text: str
    name: str
    start: float | None
    stop: float | None
    percent: bool

    def range(self, examples: int) -> range:
        """The examples that the slice takes from a split of the given size.

        A percent p of n examples is the whole number closest to p n / 100, halves to the even one.

        >>> parse_slice("train[:90%]").range(50_000)
        range(0, 45000)
        >>> parse_slice("train[-500:]").range(50_000)
        range(49500, 50000)

        Raises:
          ConfigError: if it takes none, or a boundary is outside of the split.
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
        if abs(number) > examples or (self.percent and abs(value) > 100):
            raise ConfigError(
                f"slice {self.text!r} has a boundary outside of the {examples} examples in "
                f"{self.name!r}; such as {self.name}[:90%]"
            )
        return number + examples if number < 0 else number


def parse_slice(text: str) -> Slice:
    """Parses a slice, such as `train[:90%]`.

    Raises:
      ConfigError: if the text is not a slice.
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
        raise ConfigError(f"{text!r} is not a slice of a split; write {EXAMPLES}") from None
    return Slice(text, name, *boundaries, percent)


def slices_of(
    splits: Splits,
    names: Sequence[str],
    own_test: Sequence[str] = OWN_TEST,
) -> dict[str, Slice]:
    """The slices for `train`, `test` and, if requested, `validation`.

    Args:
      splits: the slices that are asked for.
      names: the names of the splits that the source has.
      own_test: splits to test on by default: the first of them that the source has.

    Raises:
      ConfigError: for a text that is not a slice, or of a split that the source does not have.
    """
    texts = {"validation": splits.validation}
    texts["train"] = splits.train or "train"
    own_test = (*own_test, "train") if splits.test_only else own_test
    texts["test"] = splits.test or next((name for name in own_test if name in names), "")
    if not texts["test"]:
        raise ConfigError(
            f"there is no split to test on, only {', '.join(names)}; "
            "write data.train='train[:90%]' and data.test='train[90%:]'"
        )
    keys = ("test",) if splits.test_only else ("train", "test", "validation")
    slices = {key: parse_slice(texts[key]) for key in keys if texts[key]}
    for key, part in slices.items():
        if part.name not in names:
            remedy = nearest(part.name, list(names))
            if part.name.isdecimal():
                whole = key if key in names else next(iter(names))
                remedy = f"write {whole}[:{part.name}]"
            raise ConfigError(f"data.{key}={part.text!r} is of an unknown split; {remedy}")
    return {"train": slices["test"]} | slices


def resolve(slices: Mapping[str, Slice], lengths: Mapping[str, int]) -> dict[str, range]:
    """The examples that slices take from splits of these sizes.

    Raises:
      ConfigError: if a slice takes no example, or two slices share some: examples to test on must
        not be trained on.
    """
    ranges = {key: part.range(lengths[part.name]) for key, part in slices.items()}
    for one, other in itertools.combinations(slices, 2):
        if slices[one] is slices[other] or slices[one].name != slices[other].name:
            continue
        start = max(ranges[one].start, ranges[other].start)
        stop = min(ranges[one].stop, ranges[other].stop)
        if start < stop:
            raise ConfigError(
                f"data.{one}={slices[one].text!r} and data.{other}={slices[other].text!r} share "
                f"{stop - start} examples; cut them apart, such as train[:90%] and train[90%:]"
            )
    return ranges


def slice_source(source: Source, splits: Splits) -> Source:
    """A source whose splits are slices of another source in memory.

    Raises:
      ConfigError: for a slice that cannot be read, two with the same examples, or images that have
        not a label each.
    """
    for name, split in source.splits.items():
        if len(split.images) != len(split.labels):
            raise ConfigError(
                f"the split {name} has {len(split.images)} images and {len(split.labels)} labels; "
                "give each image a label"
            )
    slices = slices_of(splits, list(source.splits))
    ranges = resolve(slices, {name: len(split) for name, split in source.splits.items()})
    parts = {}
    for key, taken in ranges.items():
        whole, index = source.splits[slices[key].name], slice(taken.start, taken.stop)
        parts[key] = Split(whole.images[index], whole.labels[index])
    return Source(class_names=source.class_names, **parts)
