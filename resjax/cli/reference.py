"""Every key of a config with its default, its meaning and the values that it takes.

python -m resjax.cli.reference > docs/config.md
"""

from resjax.config.keys import KEYS, SECTIONS


def reference_page() -> str:
    """The reference as a page of Markdown, one table for each part of the config."""
    lines = [INTRODUCTION]
    for section, about in SECTIONS.items():
        lines += [f"\n## {section or 'seed'}\n", f"{about}\n"]
        lines += ["| key | default | meaning | values |", "|---|---|---|---|"]
        for name, key in KEYS.items():
            if name.rpartition(".")[0] == section:
                mark = " (e)" if key.execution else ""
                names = () if key.form == "name:argument" else key.choices
                values = ", ".join(f"`{choice}`" for choice in names) or key.described
                lines.append(f"| `{name}`{mark} | `{key.default!r}` | {key.meaning} | {values} |")
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


if __name__ == "__main__":
    print(reference_page(), end="")
