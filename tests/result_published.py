"""Figures that others published, as tables of docs/results.md."""

import re

from resjax.config.naming import deciding_keys
from resjax.models.shortcuts import SHORTCUTS
from resjax.report.arms import label
from resjax.report.formats import markdown_text
from resjax.report.reference.published import Published, published
from resjax.report.replication import same_net
from resjax.report.tables import published_error
from resjax.sweeps.experiment import load_experiment
from tests.result_sections import EXPERIMENTS, grid_of

DATA_SETS = {"cifar10": "CIFAR-10", "imagenet2012": "ImageNet"}


def published_table(references: tuple[str, ...]) -> list[str]:
    """Published errors of the nets of experiments on their data, and where they are from.

    A column is a source, and a number that is not of one run says of which; where all of a source
    are of as many, the heading says it.
    """
    found = _published(references)
    columns: dict[str, dict[str, list[tuple[str, str]]]] = {}
    sources: dict[str, dict[str, None]] = {}
    for figure in found:
        train = ", training" if figure.measure == "train_error" else ""
        percent, runs = published_error(figure).removesuffix(")").split(" (")
        column = columns.setdefault(f"{_short(figure.source)}{train}", {})
        column.setdefault(_net(figure), []).append((percent, runs))
        notes = sources.setdefault(f"{figure.source}, {figure.where}", {})
        notes |= dict.fromkeys(_notes(figure))
    header, cells = ["network"], []
    for heading, column in columns.items():
        kinds = {runs for errors in column.values() for _, runs in errors}
        silent = kinds if len(kinds) == 1 else {"1 run"}
        said = "".join(f", {runs}" for runs in silent - {"1 run"})
        header.append(heading + said)
        cells.append({
            net: ", ".join(
                percent if runs in silent else f"{percent} ({runs})" for percent, runs in errors
            )
            for net, errors in column.items()
        })  # fmt: skip
    nets = dict.fromkeys(map(_net, found))
    rows = [[net, *(column.get(net, "") for column in cells)] for net in nets]
    table = [header, ["---", *["---:"] * len(cells)], *rows]
    data = DATA_SETS[found[0].config["data.name"]]
    listed = [": ".join(filter(None, (name, "; ".join(of)))) for name, of in sources.items()]
    return [
        f"Test error % that others report on {data}, of one run unless it says otherwise:",
        "\n".join(f"| {' | '.join(row)} |" for row in table),
        folded(
            "Sources, and what is particular to them",
            "\n".join(f"- {markdown_text(each)}" for each in listed),
        ),
    ]


def folded(summary: str, *texts: str) -> str:
    """Paragraphs that a reader unfolds."""
    return "\n\n".join([f"<details>\n<summary>{summary}</summary>", *texts, "</details>"])


def _notes(figure: Published) -> list[str]:
    """What is to be known of a published figure."""
    if figure.measure == "train_error":
        return [f"train error {figure.beyond}"]
    chosen = [] if figure.selection == "final" else [figure.selection]
    return [*filter(None, figure.beyond.split("; ")), *chosen]


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
