"""The text of docs/results.md, from the tables in docs/results/ and from docstrings."""

import re
import textwrap
from collections.abc import Callable, Iterable

from resjax.config import flatten
from resjax.report import rounding
from resjax.report.arms import Cell
from resjax.report.formats import markdown, markdown_text
from resjax.report.pairs import compare
from resjax.report.report import Section
from resjax.report.tuning import tuned_keys
from tests.result_probes import probed_table
from tests.result_published import folded, published_table
from tests.result_sections import (
    DATA,
    SECTIONS,
    Entry,
    command_of,
    curves_of,
    grid_of,
    machines,
    probes_of,
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

What the files of `experiments/` ask, and what came out ([how to read the
tables](#how-to-read-the-tables)). CIFAR-10 and ImageNet were not run here; their sections, and
that on variants of the shortcut, have what others report."""

READING = """\
## How to read the tables

- **Errors** are of the final evaluation, in percent: mean ± standard deviation over the seeds.
  `plain` has no shortcut (`model.shortcut=none`).
- **A gap**, called degradation on the page of [the report](report.md#the-verdict), is the training
  error of the deepest network minus that of the best shallower one, in points, with its 95 %
  interval unless there is one seed. The verdict follows from it. The interval allows for the choice
  of that depth: beside more shallower depths the same runs have a wider one.
- **Differences** between networks of one depth are in points, paired by seed, with 95 % intervals;
  p is that of the paired t test, corrected over the rows (Holm). Three seeds rarely bring it below
  0.05.
- **Figures against depth** shift each kind of network a little sideways, so that none hides
  another.
- **Minutes** are those of the whole command, with nothing compiled before.

`python -m tests.results` draws the figures and writes this page from the tables that it links to;
with `--run` it trains all of it again."""

WIDTH = 100
"""Most characters of a line of text."""

MOST_ROWS = 12
"""Rows of the longest table that is not folded."""

MOST_NAMED = 4
"""Kinds of network of a section that the summary names one by one."""

PROBED = """\
The gradient ratio is that of the norms of the gradient at the inputs of the first block and of the
last. A response is the standard deviation of what a 3x3 layer puts out after its normalisation, the
mean over all. The last columns are test errors, the median over the blocks: with the branch of one
set to zero (of a plain network, with shortcut A in the place of one), and with one and the next
swapped."""
"""What is in the table of a section on probes."""

SHOWN = {
    "training_error": "Training error against epoch",
    "error_by": "Training and test error",
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


def page() -> str:
    """The page."""
    texts = [text for name in SECTIONS for text in _texts(name)]
    return "\n\n".join([ABOUT, _summary(), *texts, READING]) + "\n"


def _texts(name: str) -> list[str]:
    """Paragraphs of a section."""
    entry, words = SECTIONS[name], words_of(SECTIONS[name].experiment)
    heading, result = _heading(name), _prose(words.get("Result", ""))
    found = [f"## {heading}", _prose(words["Question"][len(heading) :])]
    if not table_of(name).exists():
        file = entry.experiment.partition(":")[0]
        found += [result, f"Not run for this page; `experiments/{file}` has the commands."]
    elif entry.command == "bench":
        found += [result, _speeds(name), *_provenance(name)]
    elif entry.probed:
        found += [result, PROBED, _table(*probed_table(read_table(probes_of(name))))]
        found += _provenance(name)
    else:
        section = read_section(name)
        depths = {cell.depth for cell in section.table.cells}
        tables = _at_one_depth if len(depths) == 1 else _by_depth
        figure = _figure(name, section) if entry.figure else ""
        found += [figure, result, *tables(entry, section), *_provenance(name)]
    found += published_table(entry.published) if entry.published else []
    return list(filter(None, found))


def _heading(name: str) -> str:
    """The sentence with which the question of a section begins."""
    question = words_of(SECTIONS[name].experiment)["Question"]
    return f"{_capital(question.partition('?')[0])}?"


def _link(name: str) -> str:
    """Address of a section within the page."""
    return "#" + re.sub(r"[^\w\- ]", "", _heading(name).lower()).replace(" ", "-")


def _prose(text: str) -> str:
    """A paragraph in lines, in which pages are links."""
    text = re.sub(r"`docs/([\w-]+\.md)`", r"[\1](\1)", text)
    return textwrap.fill(
        _capital(text.strip()), WIDTH, break_long_words=False, break_on_hyphens=False
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# -------------------------------------------------------------------------------------- the summary


def _summary() -> str:
    """A row for each section: question, answer, and the errors of the deepest networks."""
    rows = ["| question | answer | training error % of the deepest networks |", "|---|---|---|"]
    for name in SECTIONS:
        result = words_of(SECTIONS[name].experiment).get("Result", "")
        answer, figures = f"{_capital(result.partition('. ')[0])}.", ""
        if not table_of(name).exists():
            answer = "Not run here."
        elif SECTIONS[name].command == "bench":
            first = read_table(table_of(name))[0]
            answer = (
                f"{_speed(first, 'images_per_second')} images per s with {first['depth']} layers."
            )
        elif not SECTIONS[name].probed:
            figures = _deepest(SECTIONS[name], read_section(name))
        rows.append(f"| [{_heading(name)}]({_link(name)}) | {answer} | {figures} |")
    return "\n".join(rows)


def _deepest(entry: Entry, section: Section) -> str:
    """The training errors of the deepest networks; of many kinds the least and the greatest."""
    deepest = [arm.cells[-1] for arm in section.table.arms]
    named = deepest
    if len(deepest) > MOST_NAMED:
        named = [cell for cell in deepest if cell.arm == entry.against]
    texts = [f"{markdown_text(cell.arm)} {_mean(cell)}" for cell in named]
    if others := sorted(
        (cell for cell in deepest if cell not in named),
        key=lambda cell: cell.sample("train_error").mean,
    ):
        what = "others" if named else "networks"
        texts.append(f"{len(others)} {what} {_mean(others[0])} to {_mean(others[-1])}")
    return f"{deepest[0].depth} layers: {'; '.join(texts)}"


def _mean(cell: Cell) -> str:
    return _train_error(cell).partition(" ±")[0]


# ---------------------------------------------------------------------------- tables of a sweep


def _train_error(cell: Cell) -> str:
    return _error(cell, "train_error")


def _test_error(cell: Cell) -> str:
    return _error(cell, "test_error")


def _train_loss(cell: Cell) -> str:
    """Mean ± deviation of the training loss."""
    sample = cell.sample("train_loss")
    return rounding.with_deviation(sample.mean, sample.deviation, rounding.DECIMALS_OF_A_LOSS)


def _error(cell: Cell, measure: str) -> str:
    """Mean ± deviation of an error, in percent."""
    sample = cell.sample(measure)
    deviation = sample.deviation and 100 * sample.deviation
    return rounding.with_deviation(100 * sample.mean, deviation, rounding.DECIMALS_OF_A_PERCENT)


def _points(mean: float, interval: tuple[float, float] | None) -> str:
    """Text such as "+52 (+44 to +59)", rounded to half the width of the interval."""
    if interval is None:
        return rounding.number(100 * mean, rounding.DECIMALS_OF_A_PERCENT, sign=True)
    low, high = (100 * end for end in interval)
    places = rounding.decimals((high - low) / 2)
    ends = rounding.span((low, high), places, sign=True)
    return f"{rounding.number(100 * mean, places, sign=True)} ({ends})"


def _by_depth(entry: Entry, section: Section) -> list[str]:
    """Training errors with gaps and verdicts; test errors; and differences from one network."""
    depths = sorted({cell.depth for cell in section.table.cells})
    shared = [depth for depth in depths if _is_shared(section, entry.shares, depth)]
    shown = [depth for depth in depths if depth not in shared]
    gaps = [_points(each.gap.gap, each.gap.interval) for each in section.verdicts]
    said = [each.said.removesuffix(" with depth") for each in section.verdicts]
    more = {
        "test errors": _by_arm(section, shown, "test error %", _test_error),
        "training losses": _by_arm(section, shown, "training loss", _train_loss),
    }
    more |= _tuned(entry, section, shown)
    *first, last = more
    texts = [
        _by_arm(section, shown, "training error %", _train_error, gap=gaps, verdict=said),
        folded(_capital(f"{', '.join(first)} and {last}"), *more.values()),
    ]
    if shared:
        others = f"{', '.join(map(str, shared[:-1]))} and {shared[-1]}"
        texts.insert(0, f"Networks of {others} layers are those [above]({_link(entry.shares)}).")
    if entry.against:
        header = ["depth", "network", "training error", "p", "test error", "p"]
        found = _differences(entry, section).items()
        rows = [[str(depth), arm, *numbers] for (depth, arm), numbers in found]
        texts += [_difference_from(entry), _table(header, rows)]
    return texts


def _by_arm(
    section: Section,
    depths: list[int],
    heading: str,
    text: Callable[[Cell], str],
    **beside: list[str],
) -> str:
    """A table with a row for each arm, of a text for each depth and of other columns beside."""
    rows = [
        [arm.name, *(text(cell) for cell in arm.cells if cell.depth in depths), *rest]
        for arm, *rest in zip(section.table.arms, *beside.values(), strict=True)
    ]
    return _table([heading, *(f"{depth} layers" for depth in depths), *beside], rows)


def _tuned(entry: Entry, section: Section, depths: list[int]) -> dict[str, str]:
    """For each key that was tuned, a table of the values that were chosen."""
    runs, found = grid_of(entry.experiment, entry.seeds).values(), {}
    for key in tuned_keys(section.table.runs[0]):
        values = {flatten(config)[key] for config in runs}
        texts = {value: str(value) for value in values}
        texts[min(values)] += " (the lowest)"
        texts[max(values)] += " (the highest)"

        def text(cell: Cell, key: str = key, texts: dict = texts) -> str:
            return texts[cell.runs[0].config[key]]

        found[f"the best of {len(values)} values of {key}"] = _by_arm(section, depths, key, text)
    return found


def _at_one_depth(entry: Entry, section: Section) -> list[str]:
    """A table with a row for each kind of network: its errors, and how they differ from one."""
    found = _differences(entry, section)
    rows = []
    for cell in section.table.cells:
        train, train_p, test, test_p = found.get((cell.depth, cell.arm), [""] * 4)
        errors = _train_error(cell), _test_error(cell)
        loss = _train_loss(cell)
        rows.append([cell.arm, loss, errors[0], train, train_p, errors[1], test, test_p])
    header = ["network", "training loss", "training error %", "difference", "p"]
    header += ["test error %", "difference", "p"]
    texts = [_difference_from(entry), _table(header, rows)]
    if len(rows) <= MOST_ROWS:
        return texts
    return [folded(f"Errors of all {len(rows)} networks", *texts)]


def _difference_from(entry: Entry) -> str:
    return f"Differences from `{entry.against}`, in points:"


def _differences(entry: Entry, section: Section) -> dict[tuple[int, str], list[str]]:
    """Errors of networks less those of the first one, with which they are compared, and p.

    These are {(depth, arm): [training error, its p, test error, its p]}.
    """
    found: dict[tuple[int, str], list[str]] = {}
    for measure in section.differences:
        for pair in compare(section.table, measure, entry.against):
            low, high = pair.difference.interval
            texts = _points(-pair.difference.mean, (-high, -low)), rounding.probability(pair.p)
            found.setdefault((pair.depth, pair.second), []).extend(texts)
    return found


def _is_shared(section: Section, name: str, depth: int) -> bool:
    """Tells whether another section has all networks of a depth, with the same errors."""

    def errors(cells: Iterable[Cell]) -> set[str]:
        found = ((cell, cell.by_seed("train_error"), cell.by_seed("test_error")) for cell in cells)
        return {f"{cell.arm} {train} {test}" for cell, train, test in found if cell.depth == depth}

    return bool(name) and errors(section.table.cells) <= errors(read_section(name).table.cells)


def _table(header: list[str], rows: list[list[str]]) -> str:
    return markdown(header, rows).strip()


# -------------------------------------------------------------------- what a section has besides


def _figure(name: str, section: Section) -> str:
    shown = f"{SHOWN[SECTIONS[name].figure]} of {len(section.table.arms)} kinds of network"
    return f"![{shown}]({DATA.name}/{name}.png)"


def _speeds(name: str) -> str:
    """Table of the speeds of a section."""
    rows = [[_speed(row, field) for field in MEASURED] for row in read_table(table_of(name))]
    return _table([column for column, _, _ in MEASURED.values()], rows)


def _speed(row: dict[str, str], field: str) -> str:
    _, unit, places = MEASURED[field]
    return f"{unit * float(row[field]):,.{places}f}"


def _provenance(name: str) -> list[str]:
    """Command, machine and time of a section, and its tables."""
    machine, rows = machines()[name], read_table(table_of(name))
    seeds = len({row.get("seed") for row in rows})
    runs = f"{len(rows)} networks" + (f" ({seeds} seeds)" if seeds > 1 else "")
    took = f" in {float(machine['seconds']) / 60:.1f} min" if machine["seconds"] else ""
    files = [path for of in (table_of, curves_of, probes_of) if (path := of(name)).exists()]
    links = ", ".join(f"[{path.name}]({DATA.name}/{path.name})" for path in files)
    where = f"on {machine['cores']} cores ({machine['cpu']}), jax {machine['jax']}"
    return [f"```bash\n{command_of(name)}\n```", f"{runs}{took} {where}: {links}."]
