"""Text to show: that of others, such as names of files, made safe, and numbers with units."""

import unicodedata
from collections.abc import Iterable, Sequence


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


def several(number: int, what: str) -> str:
    """A number with its noun, such as "1 run" or "2 runs"."""
    return f"{number} {what}" + ("" if number == 1 else "s")


MOST_NAMES = 3
"""Maximum number of names that a line lists; others are counted."""


def some(names: Sequence[str]) -> str:
    """Lists names, the first of them if they are many.

    >>> some("ab"), some("abcde")
    ('a, b', 'a, b, c and 2 more')
    """
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def by_reason(reasons: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Groups (name, reason) by equal reasons, each with the names that `some` lists.

    >>> by_reason([("a", "full"), ("b", "nan"), ("c", "full")])
    [('a, c', 'full'), ('b', 'nan')]
    """
    groups: dict[str, list[str]] = {}
    for name, reason in reasons:
        groups.setdefault(reason, []).append(name)
    return [(some(names), reason) for reason, names in groups.items()]


def time_taken(seconds: float) -> str:
    """Formats a length of time for people, a short one more exactly than `clock` does.

    >>> time_taken(0.0021), time_taken(0.2), time_taken(125)
    ('2.1 ms', '0.2 s', '2 min 05 s')
    """
    if seconds >= 9.95:
        return clock(seconds)
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.1f} ms"


def clock(seconds: float) -> str:
    """Formats seconds that pass, such as "2 min 05 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def space(size: float) -> str:
    """Formats a number of bytes for people, in MB or GB of powers of 1000.

    >>> space(91_980), space(268_435_456), space(1_700_000_000), space(8_640e9)
    ('0.1 MB', '268.4 MB', '1,700 MB', '8,640 GB')
    """
    number, unit = (size / 1e9, "GB") if size >= 10e9 else (size / 1e6, "MB")
    return f"{number:,.{0 if number >= 1000 else 1}f} {unit}"
