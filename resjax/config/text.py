"""Text from others, such as names of classes, files and runs, made safe to show."""

import unicodedata


def printable(text: str) -> str:
    r"""Escapes the unprintable characters of a text, so that it is one line.

    These are control characters, and marks that change the direction of what follows.

    >>> print(printable("[red]\x1b[2J\nüß"))
    [red]\x1b[2J\nüß
    """
    return "".join(letter if _is_printable(letter) else _escaped(letter) for letter in text)


def _is_printable(letter: str) -> bool:
    return letter.isprintable() or unicodedata.category(letter) == "Zs"  # spaces of all scripts


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
