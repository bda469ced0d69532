"""Files of class names, which give the outputs of imported networks their names."""

import ast
import codecs
from pathlib import Path

from resjax.config import ConfigError


def read_class_names(path: Path) -> tuple[str, ...]:
    """Reads a class name from each line of a file, without blanks around it or empty last lines.

    The file is in UTF-8, or in UTF-16 with a byte order mark, as editors of Windows write. A list
    of names or a mapping of numbers to names, as Python or JSON writes it, is read, too.

    Raises:
      ConfigError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        text = path.read_text(encoding="utf-16" if wide else "utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path} ({error}); give one name a line") from None
    if text.lstrip()[:1] in ("{", "["):
        return _parsed(text, path)
    return tuple(line.strip() for line in text.rstrip().split("\n")) if text.strip() else ()


def _parsed(text: str, path: Path) -> tuple[str, ...]:
    """Parses class names in `[name, ...]`, `{0: name, ...}` or `{"0": [WordNet's, name], ...}`."""
    try:
        content = ast.literal_eval(text.strip())
        if isinstance(content, dict):
            numbered = {int(number): each for number, each in content.items()}
            content = [numbered[number] for number in range(len(content))]
        elif isinstance(content, set):
            raise TypeError("the members of a set have no order")
        names = [each[-1] if isinstance(each, list | tuple) else each for each in content]
    except (
        IndexError,
        KeyError,
        MemoryError,
        OverflowError,
        RecursionError,
        SyntaxError,
        TypeError,
        ValueError,
    ):
        names = [None]
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"{path} is no list of names, nor do its numbers from 0 on have names; give one name a "
            "line"
        )
    return tuple(names)
