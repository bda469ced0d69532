"""Paths and addresses as people write them, on the command line and in configs."""

import difflib
import os
import re
from pathlib import Path
from urllib.parse import unquote

from resjax.config import ConfigError
from resjax.config.addresses import KINDS, Address, refuse_web

MOST_BYTES, MOST_BYTES_IN_ALL = 255, 4095
"""Maximum bytes of a name and of a path on Linux; other systems allow the same or less.

A path that is too long is refused at once, and not in the middle of writing.
"""


FILE = "file://"

ONE_SLASH = re.compile(rf"({'|'.join(KINDS)}):/")
"""Start of an address that has lost a slash, as when it was taken for a path."""


def place(name: str | Path, said_by: str = "") -> Path | Address:
    """Parses a local directory or an address in a bucket.

    Args:
      name: the path or address as it was written.
      said_by: the words before it in a message, such as "data.dir=".

    Raises:
      ConfigError: as `local` and `Address.of` do.
    """
    text = str(name)
    if "://" in text and not text.startswith(FILE):
        return Address.of(text, said_by)
    return local(name, said_by)


def local(name: str | Path, said_by: str = "") -> Path:
    """The path of a local file or directory, with ~ for a home directory.

    `file:///absolute/path` is accepted, too.

    Args:
      name: the path as it was written.
      said_by: the words before it in a message, such as "data.dir=".

    Raises:
      ConfigError: for an empty name, an address in a bucket, the home of an unknown user, or a name
        that no file system takes.
    """
    text = str(name)
    if not text:
        raise ConfigError(f"{said_by} the name is empty; is a variable not set?".lstrip())
    if text.startswith(FILE):
        if not text.startswith(f"{FILE}/"):
            raise ConfigError(f"{said_by}{text} names another machine; write file:///PATH")
        text = unquote(text.removeprefix(FILE))
    refuse_web(text, said_by)
    if "://" in text:
        raise ConfigError(
            f"{said_by}{text} is in a bucket, and must be on this machine; name a local path"
        )
    if match := ONE_SLASH.match(text):
        raise ConfigError(
            f"{said_by}{text} has one slash after {match[1]}: and would be a local directory; "
            f"write {match[1]}://{text[match.end() :]}"
        )
    if "\0" in text:
        raise ConfigError(f"{said_by}{text!r} is not the name of a file; leave out the NUL")
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        raise ConfigError(
            f"{said_by}{text!r} is not the name of a file, as it is not Unicode; choose another"
        ) from None
    longest = max(map(len, encoded.split(os.fsencode(os.sep))))
    if longest > MOST_BYTES or len(encoded) > MOST_BYTES_IN_ALL:
        raise ConfigError(
            f"{said_by}{text} is too long for a file system, where a name has at most "
            f"{MOST_BYTES} bytes and a path {MOST_BYTES_IN_ALL}; choose a shorter one"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{said_by}{text} begins with the home of a user who is not known here; write the "
            "whole path"
        ) from None


def similar(path: Path) -> str:
    """The remedy for a path that does not exist: the nearest one beside it, or nothing."""
    try:
        names = [each.name for each in path.parent.iterdir()]
    except OSError:
        return ""
    matches = difflib.get_close_matches(path.name, names, n=1)
    return f"nearest: {path.with_name(matches[0])}" if matches else ""


def experiment_file(reference: str) -> tuple[Path, str]:
    """Splits `FILE` or `FILE:ARG` into the path and the argument.

    Raises:
      ConfigError: as `local` does.
    """
    file, _, argument = reference.partition(":")
    whole = argument.startswith("//") or ONE_SLASH.match(reference)
    return local(reference if whole else file, "--config="), argument
