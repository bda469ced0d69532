"""Errors and warnings meant for a person: their messages in one line, and remedies for names."""

import difflib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar


class ConfigError(ValueError):
    """An experiment that cannot be run as it is written: one line with the value and the remedy."""


class Notice(UserWarning):
    """A warning meant for a person; the run continues.

    The command prints it whatever the environment says about warnings.
    """


class UnknownName(ConfigError):
    """A name that a key does not take.

    Attributes:
      definable: whether an experiment file may define it.
    """

    def __init__(self, message: str, definable: bool = False):
        super().__init__(message)
        self.definable = definable


class Verbatim(ConfigError):
    """An error that `worded` leaves as it is: it names a local copy, because that is meant."""


def message_of(error: BaseException) -> str:
    """The message of an exception in one line; empty if it has none, or computing it fails."""
    try:
        return " ".join(str(error).split())
    except Exception:
        return ""


def type_and_message(error: BaseException) -> str:
    r"""The type of an exception and its message, in one line.

    >>> type_and_message(ValueError("a\nb")), type_and_message(KeyError())
    ('ValueError: a b', 'KeyError')
    """
    text = message_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def unreadable_file(path: Path | str, error: Exception) -> ConfigError:
    """The error for a file that cannot be read: it is damaged, foreign, or not permitted."""
    remedy = "make it readable" if isinstance(error, PermissionError) else "fetch it again"
    return ConfigError(f"{path} cannot be read ({type_and_message(error)[:120]}); {remedy}")


# -------------------------------------------------------------------------------------- notices

_wording: ContextVar[Callable[[str], str]] = ContextVar("wording of messages", default=str)


def notify(message: str) -> None:
    """Warns a person of something; the run continues."""
    warnings.warn(_wording.get()(message), Notice, stacklevel=3)


@contextmanager
def worded(wording: Callable[[str], str]) -> Iterator[None]:
    """Rewords the errors and notices of a block, as to name an address instead of a local copy.

    Args:
      wording: the message that stands for another.
    """
    outer = _wording.get()
    token = _wording.set(lambda message: outer(wording(message)))
    try:
        yield
    except Verbatim:
        raise
    except ConfigError as error:
        text = str(error)
        if wording(text) == text:
            raise
        raise ConfigError(wording(text)) from None
    finally:
        _wording.reset(token)


# ------------------------------------------------------------------------------- names not known

T = TypeVar("T")

MOST_LISTED = 30
"""Maximum number of names that a message lists; of more, it lists the most similar ones."""


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
    """The remedy for an unknown key: its equivalent if another program uses it, or `nearest`.

    >>> nearest_key("train.epochs", ["train.duration"])
    "use train.duration='30 epochs'"
    """
    from resjax.config.words import WORDS  # a refusal alone needs it

    whole = key.lower().replace("-", "_")
    word = WORDS.get(whole) or WORDS.get(whole.rpartition(".")[2])
    return f"use {word}" if word else nearest(key, known)


def choose(known: Mapping[str, T], name: str, what: str) -> T:
    """Looks up a name where there is no `Table`, as for the names that an option takes.

    Raises:
      UnknownName: if it is not there.
    """
    if name not in known:
        raise unknown_choice(what, name, known)
    return known[name]


def unknown_choice(
    what: str, name: str, known: Iterable[str], definable: bool = False
) -> UnknownName:
    """The refusal of a name.

    Args:
      what: what has the name, such as a key.
      name: the name.
      known: the names that there are.
      definable: whether an experiment file may define it.
    """
    from resjax.config.words import meaning  # a refusal alone needs it

    known = list(known)
    few = len(known) <= MOST_LISTED
    remedy = f"choose one of: {', '.join(known)}" if few else nearest(name, known)
    meant = meaning(name, what) or next(
        (other for other in known if other.lower() == name.lower()), ""
    )
    here = f"; here it is {meant}" if meant else ""
    return UnknownName(f"unknown {what} {name!r}; {remedy}{here}", definable)
