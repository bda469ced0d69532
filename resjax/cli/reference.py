"""A reference of the keys of a config: default, meaning and values, as a page or searched.

python -m resjax.cli.reference > docs/config.md
"""

import re
from fnmatch import fnmatchcase

from resjax.config import ConfigError, nearest_key
from resjax.config.key import SECTIONS, Key
from resjax.config.keys import KEYS
from resjax.config.words import WORDS


def reference_page() -> str:
    """The reference as a page of Markdown, with a table for each section of the config."""
    lines = [INTRODUCTION]
    for section, about in SECTIONS.items():
        lines += [f"\n## {section or 'seed'}\n", f"{about}\n"]
        lines += ["| key | default | meaning |", "|---|---|---|"]
        for name, key in KEYS.items():
            if name.rpartition(".")[0] == section:
                mark = " (e)" if key.execution else ""
                meaning = " ".join(filter(None, (key.meaning, _unsaid_values(key))))
                lines.append(f"| `{name}`{mark} | `{key.default!r}` | {meaning} |")
    return "\n".join(lines) + "\n"


def _unsaid_values(key: Key) -> str:
    """A sentence about the values of a key, where its meaning and its default leave them open.

    These are the names of a table that the meaning does not list, and the ends of a range.
    """
    if key.form == "name:argument":
        return f"Values: {key.described}."
    names = [f"`{each}`" for each in key.choices]
    if any(each not in key.meaning for each in names):
        return f"Values: {', '.join(names)}."
    span = re.search(r"\bfrom .* to [^,]*", key.described)
    return f"{span[0].capitalize()}." if span else ""


def values_of(key: Key) -> str:
    """The values that a key takes: its names, or a description if it has none."""
    names = () if key.form == "name:argument" else key.choices
    return ", ".join(names) or key.described


def matching(pattern: str) -> list[str]:
    """The keys that a pattern matches, in the order of the reference; case does not matter.

    A word with `*`, `?` or `[` is a glob over the names of keys, and each finds keys of its own.
    All other words must occur in the name, the meaning or the values of a key, where `_` and `-`
    are spaces. The name that another program gives to a key matches it, too.

    >>> matching("checkpoint.*"), matching("Label-smoothing")
    (['checkpoint.seconds', 'checkpoint.keep'], ['train.label_smoothing'])

    Raises:
      ConfigError: if no key matches a glob, or the other words, with the most similar ones.
    """
    words = pattern.split()
    globs = [word for word in words if re.search(r"[*?[]", word)]
    others = " ".join(word for word in words if word not in globs)
    searches = {glob: _named_like(glob) for glob in globs}
    if others or not globs:
        searches[others] = _about(others)
    for part, names in searches.items():
        if not names:
            raise ConfigError(f"no key matches {part!r}; {nearest_key(part, list(KEYS))}")
    found = set().union(*searches.values())
    return [name for name in KEYS if name in found]


def _named_like(glob: str) -> list[str]:
    return [name for name in KEYS if fnmatchcase(name.lower(), glob.lower())]


def _about(text: str) -> list[str]:
    """The keys in whose name, meaning or values every word of a text occurs."""
    words = _spaced(text).split()
    meant = WORDS.get("_".join(words), "").partition("=")[0]
    return [
        name
        for name, key in KEYS.items()
        if name == meant
        or all(word in _spaced(f"{name} {key.meaning} {values_of(key)}") for word in words)
    ]


def _spaced(text: str) -> str:
    return re.sub("[_-]", " ", text.lower())


INTRODUCTION = """\
---
hide-toc: true
---

<!-- Written by python -m resjax.cli.reference; change resjax/config/keys.py instead. -->

# Keys of a config

A run is described by its config: a value for each of these keys. The defaults are changed by
`get_config` of an [experiment file](add-an-experiment.md), by an axis of a sweep with
`yield {"KEY": value}`, and on the command line with `--config.KEY=VALUE`.

A key marked (e) says how a run is executed and not what it computes, and is not part of its name.
A duration is in epochs, steps or examples (`15 epochs`, `64000 steps`, `1e6 examples`), or a share
of the run (`50%`). A key, a name or a value that does not exist is refused before anything is
written. In a terminal, `resjax keys learning rate` searches this page."""


if __name__ == "__main__":
    print(reference_page(), end="")
