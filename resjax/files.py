"""Files that appear whole under their names, whoever else writes at the same time."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path for new content, which replaces the file if the block ends without an error.

    No two blocks have the same path, in whatever process or on whatever machine they are.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def link(source: str | Path, target: str | Path) -> None:
    """Links a file to another name, or copies it where the file system has no links."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
