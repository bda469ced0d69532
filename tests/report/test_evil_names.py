"""Whatever names hold, they are shown as text: in a terminal, in Markdown, LaTeX and CSV."""

import csv
import html
import io
import itertools
import re

import pytest

from resjax.cli.main import main
from resjax.config.text import printable
from resjax.interruption import how_to_go_on
from resjax.report import formats
from resjax.report.report import read_sweep, write_report
from tests.report.fabricate import write_run
from tests.report.test_formats import tables_of

EVIL = (
    "<script>alert(1)</script>", "[red]x[/red]", "[/]", "*", "\x1b[2J\x07a", "a\nb\rc", "\u202eab",
    "=HYPERLINK(1)", "+1", "-1", "@x", "$\\frac$ $x_", "`a`*b*|c", "%&#_{}~^\\", "--", "# a", "'",
)  # fmt: skip

UNPRINTABLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""All controls but the end of a line, and the marks of direction."""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep in which the shortcuts, the data, the directories and the sweep have evil names."""
    directory = tmp_path_factory.mktemp("evil") / "[red]\x1b[2J\u202e"
    for name, seed in itertools.product(EVIL, (0, 1)):
        made = write_run(
            directory, "run", 0.1 + 0.01 * seed, model__depth=8, seed=seed, model__shortcut=name,
            data__name="".join(EVIL),
        )  # fmt: skip
        made.rename(directory / f"{name.replace('/', '_')}{seed}")
    return directory


@pytest.fixture(scope="module")
def sections(sweep):
    return read_sweep(sweep).sections


@pytest.mark.parametrize("command", ["status", "report", "doctor"])
def test_a_terminal_shows_them_and_obeys_none(sweep, command, capsys, monkeypatch):
    monkeypatch.setattr("resjax.report.report.MOST_DRAWN", 0)  # figures take seconds
    monkeypatch.setattr("resjax.report.page.render", lambda *_: "")
    main([command, str(sweep)])
    out, err = capsys.readouterr()
    assert not UNPRINTABLE.search(out + err)
    for name in EVIL:
        shown = name if command == "report" else f"{name.replace('/', '_')}1"
        assert printable(shown) in out


def test_markdown_shows_them(sections):
    text = formats.markdown_document(sections, [])
    assert not UNPRINTABLE.search(text)
    assert "<script>" not in text
    for line in filter(re.compile(r"\|").match, text.splitlines()):
        cells = re.split(r"(?<!\\)(?:\\\\)*\|", line)
        assert len(cells) - 2 in (5, 6, 9, 10)
    first = {
        re.sub(r"\\(.)", r"\1", html.unescape(match))
        for match in re.findall(r"^\| (.*?) \| 8 \|", text, re.MULTILINE)
    }
    assert first == {printable(name) for name in EVIL}


def test_latex_shows_them_and_parses(sections):
    text = formats.latex_document(sections, "[red]\x1b[2J%")
    assert not UNPRINTABLE.search(text)
    for _, label, (columns, rows) in tables_of(text):
        assert label in ("tab:red-2J-errors", "tab:red-2J-differences")
        assert set(rows) == {columns}
    for line in text.splitlines():
        assert not line.startswith(("[", "*"))  # an option of the row before


def test_a_spreadsheet_computes_none_of_them(sweep):
    read = read_sweep(sweep)
    text = formats.comma_separated(read.runs, read.missing)
    assert not UNPRINTABLE.search(text)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())
    assert {row["model.shortcut"] for row in rows} == {
        f"'{name}" if name[0] in "=+-@" else printable(name) for name in EVIL
    }
    assert {row["train_error"] for row in rows} == {"0.1", "0.11"}  # numbers are as they are


def test_the_command_that_goes_on_is_told_in_one_line():
    line = how_to_go_on(["train", "--workdir=\x1b[2J\nrun"])
    assert line.strip().endswith(r"resjax train '--workdir=\x1b[2J\nrun'")


@pytest.mark.slow
def test_figures_show_them_without_a_warning(tmp_path, recwarn):
    for seed in (0, 1):
        write_run(tmp_path, str(seed), 0.1, seed=seed, model__shortcut="\x1b[2J$\\frac$\u202e")
    write_report(tmp_path)
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
