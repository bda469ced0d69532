"""The text of docs/results.md, from the tables in docs/results/ and from docstrings."""

import re
import textwrap
from collections.abc import Iterable

from resjax.config.naming import deciding_keys
from resjax.models.shortcuts import SHORTCUTS
from resjax.report import tables
from resjax.report.arms import compare, label
from resjax.report.formats import markdown, markdown_text
from resjax.report.reference.published import Published, published
from resjax.report.replication import same_net
from resjax.report.report import Section
from resjax.sweeps.experiment import load_experiment
from tests.result_sections import (
    DATA,
    EXPERIMENTS,
    SECTIONS,
    command_of,
    curves_of,
    grid_of,
    machines,
    read_section,
    table_of,
    words_of,
)
from tests.tabulated import read_table

ABOUT = """\
---
hide-toc: true
---

<!-- Written by python -m tests.results from experiments/*.py and docs/results/*.csv. -->

# Results

Every file of `experiments/` asks a question. Here is what came out: the figure, the verdicts and
errors of the [report](report.md), and the command that gives them.

- **An arm** is a kind of network at all its depths. `plain` has no shortcut
  (`model.shortcut=none`).
- **A verdict** compares depths within an arm: does the deepest network end at a higher training
  error than the best shallower one? [How it is computed](report.md#the-verdict).
- **A table of differences** compares arms at one depth, paired by seed, since networks of one seed
  start equal in what they share. Its p is corrected over all rows, and three seeds rarely bring it
  below 0.05.
- **Figures against depth** shift the points of each arm a little sideways, so that none hides
  another.
- **Minutes** are those of the whole command, with nothing compiled before.

CIFAR-10 and ImageNet were not run here. What others report on them is in the last two sections, and
on variants of shortcut and order in their section. `python -m tests.results` draws the figures and
writes this page from small tables, which are linked; with `--run` it trains all of it again."""

WIDTH = 100
"""Most characters of a line of text."""

SHOWN = {
    "training_error": "Training error against epoch",
    "error_by_depth": "Training and test error",
}
"""Figures in words, by their keys in `resjax.report.report.FIGURES`."""

MEASURED = {
    "depth": ("depth", 1, 0),
    "params": ("parameters", 1, 0),
    "compile_seconds": ("compile (s)", 1, 1),
    "step_ms": ("step (ms)", 1, 1),
    "images_per_second": ("images per s", 1, 0),
    "peak_memory_bytes": ("memory (MB)", 1e-6, 0),
}
"""Fields of a measurement of speed: the column, its unit, and the decimals of its numbers."""

DATA_SETS = {"cifar10": "CIFAR-10", "imagenet2012": "ImageNet"}


def page() -> str:
    """The page."""
    header = ["| question | answer | file of `experiments/` |", "|---|---|---|"]
    contents = "\n".join([*header, *map(_content, SECTIONS)])
    texts = [text for name in SECTIONS for text in _texts(name)]
    return "\n\n".join([ABOUT, contents, *texts]) + "\n"


def _content(name: str) -> str:
    """Row of a section in the table of contents: question, begin of the result, and file."""
    experiment = SECTIONS[name].experiment
    words = words_of(experiment)
    heading = _heading(words["Question"])
    address = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    answer = re.split(r"[.:;] ", words.get("Result", ""))[0]
    if answer:
        answer = f"{_capital(answer)}."
    else:
        answer = "See its table." if table_of(name).exists() else "Not run here."
    return f"| [{heading}](#{address}) | {answer} | `{experiment}` |"


def _heading(question: str) -> str:
    """The sentence with which a paragraph begins."""
    return f"{_capital(question.partition('?')[0])}?"


def _texts(name: str) -> list[str]:
    """Paragraphs of a section."""
    entry, words = SECTIONS[name], words_of(SECTIONS[name].experiment)
    heading, result = _heading(words["Question"]), _prose(words.get("Result", ""))
    found = [f"## {heading}", _prose(words["Question"][len(heading) :])]
    if not table_of(name).exists():
        file = entry.experiment.partition(":")[0]
        found += [result, f"Not run for this page; `experiments/{file}` has the commands."]
    elif entry.command == "bench":
        found += [result, _speeds(name), *_provenance(name)]
    else:
        section = read_section(name)
        found += [_figure(name, section), result, _listed(each.line for each in section.verdicts)]
        found += _errors(section)
        found += _differences(section, entry.against) if entry.against else []
        found += _provenance(name)
    found += _others(entry.published) if entry.published else []
    return list(filter(None, found))


def _prose(text: str) -> str:
    """A paragraph in lines, in which pages are links."""
    text = re.sub(r"`docs/([\w-]+\.md)`", r"[\1](\1)", text)
    return textwrap.fill(
        _capital(text.strip()), WIDTH, break_long_words=False, break_on_hyphens=False
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(lines: Iterable[str]) -> str:
    """Lines of a report as a list."""
    return "\n".join(f"- {markdown_text(line)}" for line in lines)


def _figure(name: str, section: Section) -> str:
    arms = "; ".join(arm.name for arm in section.table.arms)
    return f"![{SHOWN[SECTIONS[name].figure]} of {arms}]({DATA.name}/{name}.png)"


def _errors(section: Section) -> list[str]:
    """Table of the errors, and what was tuned for them."""
    caption, _ = tables.captions(section.table)
    errors = tables.errors(section.table.cells, tables.PAPER).without_empty_columns()
    return [_prose(caption), markdown(*errors).strip(), _listed(section.notes)]


def _differences(section: Section, against: str) -> list[str]:
    """Table of the errors of an arm less those of every other."""
    depth, _, _, *rest = tables.DIFFERENCES
    compared = [compare(section.table, measure, against) for measure in section.differences]
    rows = [
        (at, pair.removeprefix(f"{against} - "), *numbers)
        for at, pair, _, *numbers in tables.paired_differences(*compared).rows
    ]
    caption = (
        f"Errors of {against} less those of the others, in points, paired by seed, with 95 % "
        "intervals; p of the paired t test, corrected over all of them (Holm)."
    )
    table = tables.TextTable((depth, "network", *rest), rows).without_empty_columns()
    return [_prose(caption), markdown(*table).strip()]


def _speeds(name: str) -> str:
    """Table of the speeds of a section."""
    body = [
        [f"{unit * float(row[field]):,.{places}f}" for field, (_, unit, places) in MEASURED.items()]
        for row in read_table(table_of(name))
    ]
    return markdown([column for column, _, _ in MEASURED.values()], body).strip()


def _provenance(name: str) -> list[str]:
    """Command, machine and time of a section, and its tables."""
    machine = machines()[name]
    runs = f"{len(read_table(table_of(name)))} networks"
    took = f" in {float(machine['seconds']) / 60:.1f} min" if machine["seconds"] else ""
    files = [path for path in (table_of(name), curves_of(name)) if path.exists()]
    links = ", ".join(f"[{path.name}]({DATA.name}/{path.name})" for path in files)
    where = f"on {machine['cores']} cores ({machine['cpu']}), jax {machine['jax']}"
    return [f"```bash\n{command_of(name)}\n```", f"{runs}{took} {where}: {links}."]


# ----------------------------------------------------------------------------- published figures


def _others(references: tuple[str, ...]) -> list[str]:
    """Published figures of the nets of experiments on their data, and where they are from."""
    found = _published(references)
    nets: dict[str, dict[str, list[str]]] = {}
    sources: dict[str, dict[str, None]] = {}
    for figure in found:
        by_measure = nets.setdefault(_net(figure), {measure: [] for measure in MEASURES})
        error = tables.published_error(figure).removesuffix(")")
        by_measure[figure.measure].append(f"{error}, {_short(figure.source)})")
        notes = sources.setdefault(f"{figure.source}, {figure.where}", {})
        notes |= dict.fromkeys(_notes(figure))
    data = DATA_SETS[found[0].config["data.name"]]
    columns = ("network", *MEASURES.values())
    rows = [
        (net, *(", ".join(errors) or "-" for errors in own.values())) for net, own in nets.items()
    ]
    header, rows = tables.TextTable(columns, rows).without_empty_columns()
    table = [header, ["---"] * len(header), *rows]
    return [
        f"Reported on {data}, not run here:",
        "\n".join(f"| {' | '.join(row)} |" for row in table),
        _listed(": ".join(filter(None, (source, "; ".join(of)))) for source, of in sources.items()),
    ]


def _notes(figure: Published) -> list[str]:
    """What is to be known of a published figure."""
    if figure.measure == "train_error":
        return [f"train error {figure.beyond}"]
    chosen = [] if figure.selection == "final" else [figure.selection]
    return [*filter(None, figure.beyond.split("; ")), *chosen]


MEASURES = {"test_error": "test error %", "train_error": "train error %"}
"""Published measures, with their columns."""


def _published(references: tuple[str, ...]) -> list[Published]:
    """Published figures, by network and depth."""
    configs = [load_experiment(str(EXPERIMENTS / reference))[1] for reference in references]
    for reference in references:
        configs += grid_of(reference).values()
    figures, found = published(), []
    for config in configs:
        for figure in same_net(figures, config.data.name, deciding_keys(config)):
            if figure not in found:
                found.append(figure)
    places = {shortcut: place for place, shortcut in enumerate(SHORTCUTS)}
    return sorted(
        found, key=lambda one: (places[one.config["model.shortcut"]], one.config["model.depth"])
    )


def _net(figure: Published) -> str:
    """Name of the network of a published figure, with its keys as in the tables of a report."""
    named = ("model.name", "model.shortcut", "model.depth")
    keys = [
        f"`{key}={value}`"
        for key, value in figure.keys.items()
        if key.startswith("model.") and key not in named
    ]
    net = f"`{label(figure.config['model.shortcut'])}` {figure.config['model.depth']}"
    return ", ".join([net, *keys])


def _short(source: str) -> str:
    """Short name of a source, such as "He et al. 2015"."""
    paper = re.match(r"(\w+)[ ,].*? (\d{4}),", source)
    if paper:
        return f"{paper[1]} et al. {paper[2]}"
    return re.split("[/,]", source.removeprefix("github.com/"))[0]
