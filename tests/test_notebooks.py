"""The notebooks of colab/ run from a clean kernel, and what is saved in them is what they say."""

import base64
import io
import re

import nbformat
import pytest
from PIL import Image

from tests.notebooks import ADDRESS, NOTEBOOKS, add_answers, address, execute

SHARED = ("install", "device", "results")
"""Ids of the cells with which every notebook begins, the same in all."""

NAMES = [
    "batchnorm", "degradation", "residual_block", "residual_learning", "shortcuts", "tpu_pod",
    "training_loop",
]  # fmt: skip


def read(path):
    return nbformat.read(path, as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures_of(notebook):
    outputs = [output.get("data", {}) for cell in code_of(notebook) for output in cell.outputs]
    return [base64.b64decode(data["image/png"]) for data in outputs if "image/png" in data]


def errors_of(notebook):
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    return [
        output
        for output in outputs
        if output.output_type == "error" or output.get("name") == "stderr"
    ]


def test_all_notebooks_are_there():
    assert [path.stem for path in NOTEBOOKS] == NAMES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_is_saved_with_its_outputs(path):
    notebook = read(path)
    nbformat.validate(notebook)
    cells = code_of(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not errors_of(notebook)
    assert bool(pictures_of(notebook)) == (path.stem != "tpu_pod")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_outputs_tell_nothing_of_the_machine_nor_of_the_time(path):
    for cell in code_of(read(path)):
        for output in cell.outputs:
            for text in [output.get("text", ""), *dict(output.get("data", {})).values()]:
                if len(text) < 20_000:  # and not a picture
                    assert not re.search(
                        r"/(?:home|root|tmp|work|usr|content)/|0x[0-9a-f]{6}", text
                    )
                    assert not re.search(r"[Ww]arning|\d m?s\b", text)
        assert "execution" not in cell.metadata


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_installs_resjax_first_and_sets_its_devices_up_before_jax(path):
    notebook, first = read(path), read(NOTEBOOKS[0])
    cells, shared = code_of(notebook), {cell.id: cell.source for cell in code_of(first)}
    assert cells[0].id == "install"
    for cell in cells:
        if cell.id in SHARED:
            assert cell.source == shared[cell.id]
    assert notebook.metadata.kernelspec == first.metadata.kernelspec
    text = "\n".join(cell.source for cell in cells)
    assert text.index("XLA_PYTHON_CLIENT_PREALLOCATE") < text.index("\nimport jax")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_opens_in_colab_from_the_address_of_the_project(path):
    notebook = read(path)
    there = ADDRESS.replace("https://github.com", "https://colab.research.google.com/github")
    assert notebook.cells[0].source.endswith(f"]({there}/blob/main/colab/{path.name})")
    assert notebook.cells[0].source.startswith("[![Open in Colab](https://colab")
    before = [cell.source for cell in notebook.cells]
    address(notebook, path.stem)  # as it is written when the project moves
    assert [cell.source for cell in notebook.cells] == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_ends_with_exercises_whose_folded_answers_have_code(path):
    notebook = read(path)
    given = [cell.source for cell in notebook.cells if cell.id.startswith("exercise-")]
    assert 2 <= len(given) <= 3
    assert [cell.source for cell in notebook.cells[-len(given) :]] == given
    for number, text in enumerate(given, start=1):
        assert text.startswith(f"**{number}. ")
        assert len(re.findall(r"(?s)\n\n<details>\n<summary>Answer</summary>\n\n", text)) == 1
        assert text.endswith("\n\n</details>")  # Markdown is not read next to HTML
    add_answers(notebook)
    answers = [cell.source for cell in code_of(notebook) if cell.id.startswith("answer-")]
    assert len(answers) == len(given)
    assert all("assert" in answer or "compare(" in answer for answer in answers)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_colours_in_a_notebook_are_those_of_the_package_or_grey(path):
    notebook = read(path)
    for cell in code_of(notebook):
        if cell.id not in SHARED:
            named = re.findall(r"""color["']?[=:] *(f?["'][^"']*["'])""", cell.source)
            assert all(re.fullmatch(r"\"(black|white|0\.\d+)\"", name) for name in named), named
            assert not re.search(r"#[0-9a-fA-F]{6}\b|tab:|cmap", cell.source)
    for picture in pictures_of(notebook):
        colours = Image.open(io.BytesIO(picture)).convert("RGB").getcolors(1 << 24)
        cycle = {(31, 119, 180), (255, 127, 14), (44, 160, 44)}  # where none was chosen
        assert not cycle & {colour for _, colour in colours}


def test_a_loop_of_ones_own_is_15_lines_and_5_more_for_all_devices():
    [path] = (path for path in NOTEBOOKS if path.stem == "training_loop")
    cells = {cell.id: cell.source.splitlines() for cell in code_of(read(path))}
    assert len(cells["loop"]) <= 15
    assert any("jax.jit(step)" in line for line in cells["loop"])
    assert len(cells["mapped"]) <= 5
    assert "jax.pmap(step" in cells["mapped"][0]


@pytest.mark.slow
@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_runs_from_a_clean_kernel_and_its_claims_hold(path, tmp_path):
    """Its assertions are claims; at test size the networks are shallow and trained for less.

    The code of its answers is run, too.
    """
    notebook = execute(path, tmp_path, "test")
    assert not errors_of(notebook)
    assert all(cell.execution_count for cell in code_of(notebook))
    assert (tmp_path / "runs").is_dir() == any(cell.id == "results" for cell in notebook.cells)
