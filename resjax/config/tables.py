"""Tables: the named choices of a key of a config, to which experiment files may add."""

import ast
import dataclasses
import functools
import hashlib
import inspect
import sys
import textwrap
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.resources import files
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple, TypeVar

from resjax.config.errors import ConfigError, unknown_choice

Entry = TypeVar("Entry")

TABLES: list["Table"] = []
"""All tables of this process; an experiment file that fails leaves nothing in them."""

_loading: ContextVar[Path | None] = ContextVar("experiment file that is being loaded", default=None)


class Table(UserDict[str, Entry]):
    """Entries by the names that a key of a config takes.

    An experiment file or a notebook adds an entry by `TABLE[name] = entry`, and may replace its
    own. An entry of others can only be replaced by an equal one, since runs are named after it.

    Args:
      key: the key.
      entries: {name: entry} of resjax itself.
      entry: a description of an entry; empty if nobody else may add one.
      fits: tells whether something can be an entry.

    Attributes:
      files: {name: file} of entries that are not of resjax itself; None is no file but a notebook
        or a program.
      codes: {name: digest of its code} of these entries; see `code_of`.
    """

    def __init__(
        self,
        key: str,
        entries: Mapping[str, Entry],
        entry: str = "",
        fits: Callable[[Any], bool] = callable,
    ):
        self.key, self.entry, self.fits = key, entry, fits
        self.original, self.data = dict(entries), dict(entries)
        self.files: dict[str, Path | None] = {}
        self.codes: dict[str, str] = {}
        TABLES.append(self)

    def __setitem__(self, name: str, entry: Entry) -> None:
        """Adds an entry.

        Raises:
          ConfigError: if it is not valid, or the name is taken, with the remedy.
        """
        if not any(name in known and known[name] == entry for known in (self.data, self.original)):
            self.refuse(name, entry)
            self.files[name], self.codes[name] = _file_of(entry), code_of(entry)
        self.data[name] = entry

    def __delitem__(self, name: str) -> None:
        del self.data[name]
        self.files.pop(name, None)
        self.codes.pop(name, None)

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
          key: the key that has the name, if it is not that of the table.

        Raises:
          UnknownName: if there is none.
        """
        if name not in self.data:
            raise unknown_choice(key or self.key, name, self, bool(self.entry))
        return self.data[name]


@dataclasses.dataclass(frozen=True)
class TableReference:
    """A table by its place, `MODULE:TABLE`, whose module is not loaded before its entries are used.

    Attributes:
      place: the place.
    """

    place: str

    @property
    def table(self) -> Table:
        """The table, loaded with its module."""
        return resolve_name(self.place)

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the table."""
        table = self._loaded()
        return self.written.names if table is None else tuple(table)

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms of the names in a table of names with an argument."""
        table = self._loaded()
        if table is None:
            return self.written.forms
        return tuple(entry.form for entry in table.values())

    @functools.cached_property  # a grid asks for the names at every point
    def written(self) -> "Written":
        """The table as its source has it."""
        return written_table(self.place)

    @property
    def definable(self) -> bool:
        """Tells whether others may add to the table."""
        table = self._loaded()
        return self.written.definable if table is None else bool(table.entry)

    def _loaded(self) -> Table | None:
        module, _, name = self.place.partition(":")
        return getattr(sys.modules.get(module), name, None)


class Written(NamedTuple):
    """A table as its source code has it.

    Most tables are of modules that load JAX. As long as that of a table is not loaded nobody can
    have added to it, and what it has is read in the source.

    Attributes:
      names: names of its entries, those of its first dict.
      definable: whether others may add to it, which the argument `entry` tells.
      forms: the texts that its entries begin with, which for names with an argument are their
        forms.
    """

    names: tuple[str, ...]
    definable: bool
    forms: tuple[str, ...]


def written_table(reference: str) -> Written:
    """Reads the table `MODULE:TABLE` from the source code of its module."""
    module, _, table = reference.partition(":")
    package, *rest = module.split(".")
    source = files(package).joinpath(*rest[:-1], f"{rest[-1]}.py").read_text("utf-8")
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Call):
            continue
        made = node.value
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, ast.Name) and target.id == table for target in targets):
            entries = next(each for each in ast.walk(made) if isinstance(each, ast.Dict))
            return Written(
                names=tuple(ast.literal_eval(key) for key in entries.keys if key),
                definable=any(keyword.arg == "entry" for keyword in made.keywords),
                forms=tuple(
                    str(entry.args[0].value)
                    for entry in entries.values
                    if isinstance(entry, ast.Call)
                    and entry.args
                    and isinstance(entry.args[0], ast.Constant)
                ),
            )
    raise LookupError(f"{module} has no table {table}")


@contextmanager
def adding(path: Path) -> Iterator[None]:
    """Lets an experiment file add to tables; if it fails, they are restored."""
    restore, token = snapshot(), _loading.set(path)
    try:
        yield
    except BaseException:
        restore()
        raise
    finally:
        _loading.reset(token)


def snapshot() -> Callable[[], None]:
    """Returns a function that restores all tables to their present state."""
    before = {id(t): (dict(t.data), dict(t.files), dict(t.codes)) for t in TABLES}

    def restore() -> None:
        for table in TABLES:  # and those that were not there yet
            kept = before.get(id(table), (table.original, {}, {}))
            table.data, table.files, table.codes = map(dict, kept)

    return restore


def code_of(entry: Any) -> str:
    """A digest of what a class or function computes by its own code, without comments and docs.

    It is empty for an object, and for code whose source is not at hand.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(entry)))
    except (OSError, TypeError, SyntaxError):
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:8]


def _file_of(entry: Any) -> Path | None:
    """The experiment file being loaded, or that of a class or function; None if there is none."""
    defined = hasattr(entry, "__qualname__")  # an object has the module of its class
    module = sys.modules.get(entry.__module__ or "") if defined else None
    file = _loading.get() or getattr(module, "__file__", None)
    return Path(file).resolve() if file else None
