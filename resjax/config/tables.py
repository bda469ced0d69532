"""Tables: what a key of a config chooses from by name, and what experiment files add to it."""

import ast
import difflib
import functools
import sys
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.resources import files
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple, TypeVar

from resjax.config.errors import ConfigError, UnknownName

Entry = TypeVar("Entry")

TABLES: list["Table"] = []
"""All tables of this process, in which a file that fails leaves nothing."""

_loading: ContextVar[Path | None] = ContextVar("experiment file that is being loaded", default=None)


class Table(UserDict[str, Entry]):
    """Entries by the names that a key of a config takes.

    An experiment file or a notebook adds an entry by `TABLE[name] = entry`, and may replace its
    own. That of another is replaced by nothing but its equal, since runs are named after it.

    Args:
      key: the key.
      entries: {name: entry} of resjax itself.
      entry: a description of an entry; empty if nobody else may add one.
      fits: tells whether something can be an entry.

    Attributes:
      files: {name: file} of entries that are not of resjax itself; None is no file but a notebook
        or a program.
    """

    def __init__(
        self,
        key: str,
        entries: Mapping[str, Entry],
        entry: str = "",
        fits: Callable[[Any], bool] = callable,
    ):
        self.key, self.entry, self.fits = key, entry, fits
        self.original, self.data, self.files = dict(entries), dict(entries), {}
        TABLES.append(self)

    def __setitem__(self, name: str, entry: Entry) -> None:
        """Adds an entry.

        Raises:
          ConfigError: if it is none, or the name is taken, with the remedy.
        """
        if not any(name in known and known[name] == entry for known in (self.data, self.original)):
            self.refuse(name, entry)
            self.files[name] = _file_of(entry)
        self.data[name] = entry

    def __delitem__(self, name: str) -> None:
        del self.data[name]
        self.files.pop(name, None)

    def refuse(self, name: str, entry: Any) -> None:
        """Raises ConfigError if something cannot be added under a name."""
        adds, what = _loading.get() or "this program", f"{self.key} {name!r}"
        if not self.entry:
            raise ConfigError(f"{adds} adds {what}; there are {', '.join(self)} alone")
        if not isinstance(name, str) or not self.fits(entry):
            raise ConfigError(f"{adds} adds {entry!r} as {what}, and not {self.entry}")
        if name in self.original or self.files.get(name, _file_of(entry)) != _file_of(entry):
            whose = "resjax" if name in self.original else self.files[name] or "this program"
            section, dot, last = name.rpartition(".")
            raise ConfigError(
                f"{adds} replaces {what} of {whose}, after which runs are named; give its own "
                f"another name, such as {section}{dot}my_{last}"
            )

    def choose(self, name: str, key: str = "") -> Entry:
        """Returns the entry of a name.

        Args:
          name: the name.
          key: the key that has the name, if it is another one than that of the table.

        Raises:
          UnknownName: if there is none.
        """
        if name not in self.data:
            raise self.unknown(name, key)
        return self.data[name]

    def unknown(self, name: str, key: str = "", beside: Iterable[str] = ()) -> UnknownName:
        """The refusal of a name; `beside` are names that the key takes beside the table's."""
        key = key or self.key
        return _unknown(key, name, [*beside, *self], self.meant(name, key), bool(self.entry))

    def meant(self, name: str, key: str) -> str:
        """Translates a name of other programs to what it is called here; empty if it is unknown."""
        return _meant(name, key)


def names_of(reference: str) -> tuple[str, ...]:
    """Names in the table `MODULE:TABLE`, whose module is not loaded for that; see `Written`."""
    table = _loaded(reference)
    return written_table(reference).names if table is None else tuple(table)


def unknown_name(reference: str, name: str, key: str, beside: Iterable[str]) -> UnknownName:
    """The refusal of a name that the table `MODULE:TABLE` does not have.

    Args:
      reference: the table.
      name: the name.
      key: the key that has it.
      beside: names that the key takes beside those of the table.
    """
    table = _loaded(reference)
    if table is None:
        written = written_table(reference)
        if written.plain:
            return _unknown(
                key, name, [*beside, *written.names], _meant(name, key), written.definable
            )
        table = resolve_name(reference)
    return table.unknown(name, key, beside)


def _loaded(reference: str) -> Table | None:
    module, _, name = reference.partition(":")
    return getattr(sys.modules.get(module), name, None)


class Written(NamedTuple):
    """A table as its source has it.

    Most tables are of modules that load JAX. As long as that of a table is not loaded nobody can
    have added to it, and what it has is read in the source.

    Attributes:
      names: names of its entries, those of its first dict.
      definable: whether others may add to it, as it says what an `entry` is.
      plain: whether it is a `Table`, and of no class that knows more of names.
    """

    names: tuple[str, ...]
    definable: bool
    plain: bool


@functools.cache  # a grid asks for the names at every point
def written_table(reference: str) -> Written:
    """Reads the table `MODULE:TABLE` in the source of its module."""
    module, _, table = reference.partition(":")
    package, *rest = module.split(".")
    source = files(package).joinpath(*rest[:-1], f"{rest[-1]}.py").read_text("utf-8")
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == table for target in targets):
            made = node.value
            entries = next(each for each in ast.walk(made) if isinstance(each, ast.Dict))
            return Written(
                names=tuple(key.value for key in entries.keys),
                definable=any(keyword.arg == "entry" for keyword in made.keywords),
                plain=isinstance(made.func, ast.Name) and made.func.id == Table.__name__,
            )
    raise LookupError(f"{module} has no table {table}")


@contextmanager
def adding(path: Path) -> Iterator[None]:
    """Lets an experiment file add to tables; if it fails they are what they were."""
    restore, token = snapshot(), _loading.set(path)
    try:
        yield
    except BaseException:
        restore()
        raise
    finally:
        _loading.reset(token)


def snapshot() -> Callable[[], None]:
    """Returns a function that makes all tables what they are now."""
    before = {id(table): (dict(table.data), dict(table.files)) for table in TABLES}

    def restore() -> None:
        for table in TABLES:  # and those that were not there yet
            table.data, table.files = map(dict, before.get(id(table), (table.original, {})))

    return restore


MOST_LISTED = 30
"""Most names that a message lists; of more, it gives the most similar ones."""


def nearest(name: str, known: list[str]) -> str:
    """The remedy for an unknown name: the most similar known ones, or all if they are few.

    >>> nearest("learning_rte", ["optim.name", "optim.learning_rate"])
    'nearest: optim.learning_rate'
    """
    matches = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if not matches:
        last = {other.split(".")[-1]: other for other in reversed(known)}
        close = difflib.get_close_matches(name.split(".")[-1], list(last), n=3, cutoff=0.6)
        matches = [last[other] for other in close]
    if not matches and len(known) <= MOST_LISTED:
        return f"known: {', '.join(known)}"
    matches = matches or difflib.get_close_matches(name, known, n=3, cutoff=0.0)
    return f"nearest: {', '.join(matches)}"


def nearest_key(key: str, known: list[str]) -> str:
    """The remedy for an unknown key: its name in resjax if other programs use it, or `nearest`.

    >>> nearest_key("train.epochs", ["train.duration"])
    "use train.duration='30 epochs'"
    """
    from resjax.config.words import WORDS  # a refusal alone needs it

    whole = key.lower().replace("-", "_")
    word = WORDS.get(whole) or WORDS.get(whole.rpartition(".")[2])
    return f"use {word}" if word else nearest(key, known)


def choose(known: Mapping[str, Entry], name: str, what: str) -> Entry:
    """Looks a name up where there is no `Table`, as for the names that an option takes.

    Raises:
      UnknownName: if it is not there.
    """
    if name not in known:
        raise _unknown(what, name, list(known), _meant(name, what))
    return known[name]


def _unknown(
    what: str, name: str, known: list[str], meant: str, definable: bool = False
) -> UnknownName:
    few = len(known) <= MOST_LISTED
    remedy = f"choose one of: {', '.join(known)}" if few else nearest(name, known)
    meant = meant or next((other for other in known if other.lower() == name.lower()), "")
    here = f"; here it is {meant}" if meant else ""
    return UnknownName(f"unknown {what} {name!r}; {remedy}{here}", definable)


def _meant(name: str, key: str) -> str:
    from resjax.config.words import NAMES  # a refusal alone needs it

    return NAMES.get(key, {}).get(name.lower(), "")


def _file_of(entry: Any) -> Path | None:
    """The experiment file that is being loaded, or that of a class or function; None if none is."""
    defined = hasattr(entry, "__qualname__")  # an object has the module of its class
    module = sys.modules.get(entry.__module__ or "") if defined else None
    file = _loading.get() or getattr(module, "__file__", None)
    return Path(file).resolve() if file else None
