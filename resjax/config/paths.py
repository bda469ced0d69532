"""Files and directories by the names that people write: on the command line and in configs."""

import os
from pathlib import Path

from resjax.config import ConfigError

MOST_BYTES, MOST_BYTES_IN_ALL = 255, 4095
"""Of a name and of a path, by the limits of Linux, which other systems have too, or smaller ones.

A longer one would be found out in the middle of what is written.
"""


def local(name: str | Path, said_by: str = "") -> Path:
    """A file or directory of this machine, in which ~ is a home directory.

    Args:
      name: as it was written.
      said_by: what precedes it in a message, such as "data.dir=".

    Raises:
      ConfigError: for an empty name, a URL, the home of a user that there is not, or what no file
        system takes.
    """
    text = str(name)
    if not text:
        raise ConfigError(f"{said_by} the name is empty; is a variable not set?".lstrip())
    if "://" in text:
        raise ConfigError(
            f"{said_by}{text} is not a POSIX directory; mount the bucket and name its path"
        )
    if "\0" in text:
        raise ConfigError(f"{said_by}{text!r} is no name of a file; leave out the NUL")
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        raise ConfigError(
            f"{said_by}{text!r} is no name of a file, for it is no Unicode; choose another"
        ) from None
    longest = max(map(len, encoded.split(os.fsencode(os.sep))))
    if longest > MOST_BYTES or len(encoded) > MOST_BYTES_IN_ALL:
        raise ConfigError(
            f"{said_by}{text} is too long for a file system, by which a name has at most "
            f"{MOST_BYTES} bytes and a path {MOST_BYTES_IN_ALL}; choose a shorter one"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{said_by}{text} begins with the home of a user that is not known here; write the "
            "whole path"
        ) from None


def experiment_file(reference: str) -> tuple[Path, str]:
    """The file and the argument of `FILE` or `FILE:ARG`.

    Raises:
      ConfigError: as `local`.
    """
    file, _, argument = reference.partition(":")
    return local(reference if argument.startswith("//") else file, "--config="), argument
