"""Sections of docs/results.md: what each is run by, and what is known of it."""

import ast
import dataclasses
import re
from pathlib import Path

from ml_collections import ConfigDict

from resjax.report.report import Section
from resjax.sweeps.grid import experiment_runs
from tests.tabulated import read_report, read_table

ROOT = Path(__file__).parents[1]

EXPERIMENTS, DATA = ROOT / "experiments", ROOT / "docs" / "results"

MACHINES = DATA / "machines.csv"
"""Table of what trained each section, of the sizes of its data, and of the seconds it took."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A section of the page.

    Attributes:
      experiment: file in `experiments/`, with its argument.
      figure: key of `resjax.report.report.FIGURES`; empty for none.
      seeds: number of seeds; None for those of the experiment.
      against: arm that is compared with every other, paired by seed; empty for none.
      shares: section that has networks of this one, which are not shown again; empty for none.
      published: experiments that have the nets and the data of published figures.
      command: `sweep` or `bench`; empty for what is not run here.
      options: further options of the command.
      probed: whether what its runs record inside the networks is shown instead of their errors.
    """

    experiment: str
    figure: str = ""
    seeds: int | None = None
    against: str = ""
    shares: str = ""
    published: tuple[str, ...] = ()
    command: str = "sweep"
    options: str = ""
    probed: bool = False


SECTIONS = {
    "degradation": Entry("degradation.py", "training_error"),
    "lr": Entry("degradation.py:lr", "error_by"),
    "shapes": Entry("degradation.py:shapes", "error_by", seeds=1),
    "identity_vs_projection": Entry(
        "identity_vs_projection.py", "error_by", against="identity", shares="degradation"
    ),
    "identity_mappings": Entry(
        "identity_mappings.py", "error_by", seeds=5, against="identity order=post",
        published=("identity_mappings.py:cifar10",),
    ),
    "nested": Entry("nested.py", "training_error", seeds=3, against="plain"),
    "duration": Entry("duration.py"),
    "very_deep": Entry("very_deep.py", "error_by"),
    "inside": Entry("inside.py", probed=True),
    "without_norm": Entry("without_norm.py", "error_by", seeds=5),
    "modern_recipe": Entry("modern_recipe.py", "error_by", seeds=5),
    "speed": Entry("speed.py", command="bench", options="--depths=20,56,110"),
    "cifar10": Entry(
        "cifar10.py", command="",
        published=("cifar10.py", "degradation.py:cifar10", "identity_vs_projection.py:cifar10"),
    ),
    "imagenet": Entry(
        "imagenet.py", published=("imagenet.py", "degradation.py:imagenet"), command=""
    ),
}  # fmt: skip
"""Sections by the names of their files, in the order of the page."""


def command_of(name: str, workdir: Path | None = None) -> str:
    """The command of a section; by default with the workdir that the page shows."""
    entry = SECTIONS[name]
    words = [f"resjax {entry.command} --config=experiments/{entry.experiment}", entry.options]
    if entry.command == "sweep":
        words.append(f"--workdir={workdir or Path('runs', name)}")
    if entry.seeds:
        words.append(f"--seeds={entry.seeds}")
    return " ".join(filter(None, words))


def words_of(reference: str) -> dict[str, str]:
    """Paragraphs of the docstring of an experiment, {"Question" or "Result": text}.

    Those of its argument count before those of all arguments.
    """
    file, _, argument = reference.partition(":")
    text = ast.get_docstring(ast.parse((EXPERIMENTS / file).read_text(encoding="utf-8")))
    found = {}
    for kind, of, words in re.findall(
        r"^(Question|Result)(?: of (\w+))?: (.*?)(?=\n\n|\Z)", text, re.DOTALL | re.MULTILINE
    ):
        if of == argument or not of:
            found[kind, bool(of)] = " ".join(words.split())
    return {kind: words for (kind, _), words in sorted(found.items())}


def table_of(name: str) -> Path:
    """File with the results of a section; there is none if it was not run."""
    return DATA / f"{name}.csv"


def curves_of(name: str) -> Path:
    """File with the curves of a section; there is one if its figure has curves."""
    return DATA / f"{name}-curves.csv"


def probes_of(name: str) -> Path:
    """File with what the runs of a section record inside their networks."""
    return DATA / f"{name}-probes.csv"


def machines() -> dict[str, dict[str, str]]:
    """Rows of `MACHINES`, {name of the section: {column: text}}."""
    return {row["section"]: row for row in read_table(MACHINES)} if MACHINES.exists() else {}


def grid_of(reference: str, seeds: int | None = None) -> dict[str, ConfigDict]:
    """Runs of an experiment, {name: config}."""
    runs = experiment_runs(f"{EXPERIMENTS / reference}", ROOT, seeds=seeds)
    return {directory.name: config for directory, config in runs.items()}


def read_section(name: str) -> Section:
    """The report of a section, from its tables."""
    entry, machine = SECTIONS[name], machines()[name]
    report = read_report(
        grid_of(entry.experiment, entry.seeds),
        table_of(name),
        curves_of(name),
        {split: int(machine[split]) for split in ("train", "test")},
    )
    (section,) = report.sections
    return section
