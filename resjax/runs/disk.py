"""Files with digests: JSON objects and JSON lines, each either complete or refused."""

import contextlib
import hashlib
import io
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from resjax.config import ConfigError
from resjax.files import replacing

DIGEST = "sha256"
"""Key of an object's digest, named after the hash function of which it is a prefix."""


DIGEST_LENGTH = 16


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
      ConfigError: if it is missing or damaged.
    """
    try:
        return opened(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file; a truncated last line is left out.

    Raises:
      ConfigError: if the file is missing or damaged.
    """
    try:
        return list(map(opened, _lines(path.read_bytes())))
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def read_known_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file whose digest is known to be right; skips theirs.

    It takes a quarter of the time of `read_lines`.
    """
    lines = path.read_bytes().splitlines()
    return [
        {key: value for key, value in line.items() if key != DIGEST}
        for line in json.loads(b"[" + b",".join(lines) + b"]")
    ]


def _lines(content: bytes) -> list[bytes]:
    """The lines of a file, without a truncated last one.

    A whole object and one byte after it are no such rest: the newline was changed.
    """
    *lines, rest = content.split(b"\n")
    with contextlib.suppress(ValueError):
        opened(rest[:-1])
        lines.append(rest)
    return lines


def mend_lines(path: Path, instead: dict[str, Any]) -> None:
    """Replaces each damaged line of a JSON lines file, if there are any, by an object."""
    try:
        lines = _lines(path.read_bytes())
    except FileNotFoundError:
        return
    kept, damaged = [], False
    for line in lines:
        try:
            kept.append(opened(line))
        except ValueError:
            kept.append(instead)
            damaged = True
    if damaged:
        write_lines(path, kept)


def seal(path: Path) -> dict[str, Any]:
    """The size and digest of a file, for `refuse_other_file` to compare with."""
    return {"bytes": path.stat().st_size, DIGEST: file_digest(path)}


def refuse_other_file(path: Path, sealed: Mapping[str, Any]) -> None:
    """Raises ConfigError unless a file begins with its content when it was sealed."""
    if file_digest(path, sealed["bytes"]) != sealed[DIGEST]:
        raise unreadable(path, ValueError("it is not what the run wrote"))


def sha256(path: Path, size: int | None = None) -> str:
    """The SHA-256 of a file, or of its first bytes; raises OSError if it cannot be read."""
    with path.open("rb") as file:
        whole = file if size is None else io.BytesIO(file.read(size))
        return hashlib.file_digest(whole, "sha256").hexdigest()


def file_digest(path: Path, size: int | None = None) -> str:
    """The same digest for a file of a run; raises ConfigError if it cannot be read."""
    try:
        return sha256(path, size)
    except OSError as error:
        raise unreadable(path, error) from None


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Adds its digest to an object, and replaces numbers that are not finite by null."""
    content = _finite(content)
    return {**content, DIGEST: _digest(content)}


def opened(text: str | bytes) -> dict[str, Any]:
    """Parses the object in a text, without its digest.

    Raises:
      ValueError: if the text is not an object, or the digest is not the object's.
    """
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
        if DIGEST not in content:
            raise ValueError("it has no digest, as those of early versions have none")
        if content.pop(DIGEST) != _digest(content):
            raise ValueError("its digest is not that of its content")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return content


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def unreadable(path: Path, error: Exception) -> ConfigError:
    """Makes the error for a file that cannot be read, or is not as written."""
    reason = error.strerror if isinstance(error, OSError) else error
    return ConfigError(
        f"cannot read {path} ({reason}); resjax doctor {path.parent} says what to do"
    )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a file atomically; numbers that are not finite become null."""
    write_text(path, sealed_text(content))


def sealed_text(content: Mapping[str, Any]) -> str:
    """Formats an object with its digest as JSON."""
    return json.dumps(sealed(content), indent=2, allow_nan=False) + "\n"


def write_lines(path: Path, contents: Iterable[dict[str, Any]]) -> None:
    """Writes a JSON lines file atomically."""
    write_text(path, "".join(map(_line, contents)))


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Appends an object to a JSON lines file, replacing a truncated last line."""
    with path.open("ab+") as file:
        _cut_last_line(file)
        file.write(_line(content).encode())


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Writes a file atomically; `durable` even if the machine goes down."""
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(text.encode(errors="backslashreplace"))
        file.flush()
        if durable:
            os.fsync(file.fileno())


def _line(content: dict[str, Any]) -> str:
    return json.dumps(sealed(content), allow_nan=False) + "\n"


def _cut_last_line(file: BinaryIO) -> None:
    """Truncates a file after its last newline."""
    end = file.seek(0, os.SEEK_END)
    if not end:
        return
    file.seek(end - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return list(map(_finite, content))
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
