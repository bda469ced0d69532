"""Every key of a config with its default, its meaning and the values that it takes.

python -m resjax.cli.reference > docs/config.md
"""

import dataclasses
import functools
from collections.abc import Mapping
from types import MappingProxyType

from resjax.config.keys import KEYS, SECTIONS, Key


@dataclasses.dataclass(frozen=True)
class Entry:
    """A key of a config.

    Attributes:
      key: the dotted name of the key.
      said: its entry in `KEYS`.
      choices: the names that it takes; empty if its values are not names.
      expected: a description of its values.
    """

    key: str
    said: Key
    choices: tuple[str, ...]
    expected: str

    @property
    def section(self) -> str:
        """The section of the config that the key is in; empty for `seed`."""
        return self.key.rpartition(".")[0]


@functools.cache
def entries() -> Mapping[str, Entry]:
    """The entries of all keys, {dotted key: entry}, in the order of `KEYS`.

    >>> entries()["norm.position"].choices
    ('before', 'after')
    >>> entries()["model.depth"].expected
    'a number of layers, such as 56'
    """
    choices = _choices()
    return MappingProxyType(
        {
            key: Entry(
                key=key,
                said=said,
                choices=choices.get(key, ()),
                expected=_expected(key, choices.get(key, ())),
            )
            for key, said in KEYS.items()
        }
    )


def reference_page() -> str:
    """The reference as a page of Markdown, one table for each part of the config."""
    lines = [INTRODUCTION]
    for section, about in SECTIONS.items():
        lines += [f"\n## {section or 'seed'}\n", f"{about}\n"]
        lines += ["| key | default | meaning | values |", "|---|---|---|---|"]
        for entry in entries().values():
            if entry.section == section:
                said = entry.said
                mark = " (e)" if said.execution else ""
                values = ", ".join(f"`{name}`" for name in entry.choices) or entry.expected
                lines.append(
                    f"| `{entry.key}`{mark} | `{said.default!r}` | {said.meaning} | {values} |"
                )
    return "\n".join(lines) + "\n"


INTRODUCTION = """\
---
hide-toc: true
---

<!-- Written by python -m resjax.cli.reference; change resjax/config/keys.py instead. -->

# Keys of a config

An experiment is a config: what differs from these defaults. An experiment file sets keys in
`get_config`, the command line with `--config.KEY=VALUE`, an axis of a sweep with
`yield {"KEY": value}`.

A key marked (e) says how a run is executed and not what it computes, and is not part of its name.
A duration takes any one unit: `15 epochs`, `64000 steps`, `1e6 examples`, and inside a run `50%`.
A key, a name or a value that does not exist is refused before anything is written."""


def _expected(key: str, names: tuple[str, ...]) -> str:
    said = KEYS[key]
    if said.expected:
        return said.expected
    if said.duration:
        return "a duration"
    if key == "data.name":
        from resjax.data.sources import SOURCES

        return "; ".join(kind.form for kind in SOURCES.values())
    if names:
        return "one of " + ", ".join(names)
    return {bool: "True or False", tuple: "a tuple"}.get(type(said.default), "text")


def _choices() -> dict[str, tuple[str, ...]]:
    """The names that keys take, {key: names}, from `KEYS` and the tables with these names."""
    from resjax.data.folder import ON_BAD
    from resjax.data.resident import STATISTICS
    from resjax.models.build import AUTO, CHOICES
    from resjax.models.networks import BLOCKS, FAMILIES, STEMS
    from resjax.probes.table import PROBES
    from resjax.runs.events import WRITERS
    from resjax.training.losses import LOSSES
    from resjax.training.optim import CHOSEN, OPTIMIZERS, SCHEDULES, WARMUPS
    from resjax.training.parallel import STYLES

    return {
        key: tuple(names)
        for key, names in {
            **{key: said.names for key, said in KEYS.items() if said.names},
            **CHOICES,
            "model.name": FAMILIES,
            "model.block": (AUTO, *BLOCKS),
            "model.stem": (AUTO, *STEMS),
            "data.on_bad": ON_BAD,
            "data.standardise": STATISTICS,
            "optim.name": OPTIMIZERS,
            "optim.decayed": CHOSEN,
            "optim.adapted": CHOSEN,
            "optim.schedule": SCHEDULES,
            "optim.warmup_shape": WARMUPS,
            "train.loss": LOSSES,
            "train.parallel": STYLES,
            "log.writers": WRITERS,
            "eval.probes": PROBES,
        }.items()
    }


if __name__ == "__main__":
    print(reference_page(), end="")
