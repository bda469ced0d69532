"""Files that several processes may write at once: each is whole, and that of one of them."""

import contextlib
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
