"""A key of a config and what it may be: its type, its values, and what depends on it."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from resjax.config.errors import ConfigError, UnknownName, unknown_choice
from resjax.config.tables import Table, TableReference

SECTIONS: dict[str, str] = {
    "": "The source of all random numbers of a run.",
    "model": "The network: its family and size, its blocks, and what their shortcuts are.",
    "norm": "The normalisation, and the examples that it is computed over.",
    "data": "The images, and what is done to them before the network sees them.",
    "optim": "The update of the parameters and the learning rate of every step.",
    "train": "Loss, duration, batches, devices, and initial weights.",
    "checkpoint": "When the state of a run is saved.",
    "log": "Tools that show the numbers of a run.",
    "resources": "What Ray reserves for a run; other launchers do not read it.",
    "eval": "When a run is evaluated, on what, and which evaluation counts.",
}
"""The subject of the keys in each section of a config, in the order of the reference."""


@dataclasses.dataclass(frozen=True)
class Key:
    """A key's default, meaning and values.

    Attributes:
      default: the value where an experiment does not set the key; every value has its type.
      meaning: the meaning of the key, in Markdown; values in backticks are values that it takes.
      within: the lowest and the highest value of a number, both included.
      pair: the lowest and the highest value in a tuple of two numbers, the lower one first.
      names: the names that the key takes, apart from those of its table.
      table: `MODULE:TABLE`, the table in the code whose names the key takes.
      refused: names of the table with which no network can be built.
      form: the form of a value that names entries of the table: a `name`, a `name:argument`, or
        several names with commas, `name,name`.
      expected: a description of its values, where neither their type nor their names say it.
      duration: whether the value is a duration, or a tuple of durations.
      decides: what depends on the key: the `result` of a run, its last `bits` alone, as where equal
        sums are taken in another order, or `nothing` of it.
    """

    default: Any
    meaning: str
    within: tuple[float, float] | None = None
    expected: str = ""
    duration: bool = False
    decides: Literal["result", "bits", "nothing"] = "result"
    pair: tuple[float, float] | None = None
    names: tuple[str, ...] = ()
    table: str = ""
    refused: tuple[str, ...] = ()
    form: Literal["name", "name:argument", "name,name"] = "name"

    @property
    def execution(self) -> bool:
        """Tells whether the key affects only execution, not results; run names then omit it."""
        return self.decides != "result"

    @property
    def entries(self) -> Table | None:
        """The table whose names the key takes, loaded with its module; None if it has no table."""
        return self._reference.table if self.table else None

    @property
    def choices(self) -> tuple[str, ...]:
        """The names that the key takes, or that its values begin with; empty if it takes none."""
        of_table = self._reference.names if self.table else ()
        return (*self.names, *(name for name in of_table if name not in self.refused))

    def unknown(self, name: str, key: str) -> UnknownName:
        """The error for a name that is not a choice of a key with this entry."""
        return unknown_choice(
            key, name, self.choices, bool(self.table) and self._reference.definable
        )

    @functools.cached_property
    def _reference(self) -> TableReference:
        return TableReference(self.table)

    def names_in(self, value: str | Sequence[str]) -> list[str]:
        """The names in a value, in order and without repetition."""
        if self.form == "name,name" and isinstance(value, str):
            value = [name.strip() for name in value.split(",") if name.strip()]
        texts = [value] if isinstance(value, str) else value
        if self.form == "name:argument":
            texts = [text.partition(":")[0] for text in texts]
        return list(dict.fromkeys(texts))

    @property
    def described(self) -> str:
        """A description of the values."""
        if self.expected:
            return self.expected
        if self.duration:
            return "a duration"
        if self.form == "name:argument":
            return "; ".join(self._reference.forms)
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.within:
            return "a number from {:g} to {:g}".format(*self.within)
        return DESCRIBED[type(self.default)]


DESCRIBED = {
    bool: "True or False",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    tuple: "a tuple, such as ('50%', '75%')",
}
"""Descriptions of values by their type."""


class Keys(Table[Key]):
    """The keys of a config by their dotted names; an experiment file may add its own."""

    def __init__(self, entries: dict[str, Key]):
        super().__init__("config key", entries, 'a Key, such as Key(0.5, "The meaning.")', _is_key)

    def refuse(self, name: str, entry: Any) -> None:
        super().refuse(name, entry)
        section, _, last = name.rpartition(".")
        if section not in SECTIONS or not section or not last.isidentifier():
            sections = ", ".join(filter(None, SECTIONS))
            raise ConfigError(
                f"a config key has a section and a name, as model.alpha, and not {name!r}; the "
                f"sections are {sections}"
            )

    def parts(self, flat: Mapping[str, Any]) -> dict[str, str]:
        """Parts of a config that resjax does not define, {"KEY=NAME": digest of the code}."""
        return {
            f"{key}={name}": table.codes[name]
            for key, value in flat.items()
            if key in self and (table := self[key].entries) is not None
            for name in self[key].names_in(value)
            if name in table.codes
        }

    def added(self, flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Describes the keys of a config that an experiment added, for readers without its file.

        These are {key: {"default", "decides", "file"}}; the file is empty if a program added it.
        """
        return {
            key: {
                "default": self[key].default,
                "decides": self[key].decides,
                "file": _from_here(file) if file else "",
            }
            for key, file in self.files.items()
            if key in flat
        }


def _from_here(path: Path) -> str:
    """A path relative to the working directory, if it lies inside it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _is_key(entry: Any) -> bool:
    return isinstance(entry, Key) and type(entry.default) in DESCRIBED
