"""The notebooks of colab/ run from a clean kernel, and what is saved in them is what they say."""

import re

import nbformat
import pytest

from tests.notebooks import NOTEBOOKS, execute

MOST_BYTES = 400_000

SHARED = ("install", "device", "results")
"""Ids of the cells with which every notebook begins, the same in all."""

NAMES = [
    "batchnorm", "degradation", "residual_learning", "shortcuts", "tpu_pod", "training_loop",
]  # fmt: skip


def read(path):
    return nbformat.read(path, as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


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
    assert any("image/png" in o.get("data", {}) for cell in cells for o in cell.outputs) or (
        path.stem == "tpu_pod"
    )
    assert path.stat().st_size < MOST_BYTES


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


def test_a_loop_of_ones_own_is_15_lines_and_5_more_for_all_devices():
    [path] = (path for path in NOTEBOOKS if path.stem == "training_loop")
    cells = {cell.id: cell.source.splitlines() for cell in code_of(read(path))}
    assert len(cells["loop"]) <= 15
    assert any("jax.jit(step)" in line for line in cells["loop"])
    assert len(cells["mapped"]) <= 5
    assert "jax.pmap(step" in cells["mapped"][0]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_runs_from_a_clean_kernel_and_its_claims_hold(path, tmp_path):
    """Its assertions are claims; at test size the networks are shallow and trained for less."""
    notebook = execute(path, tmp_path, "test")
    assert not errors_of(notebook)
    assert all(cell.execution_count for cell in code_of(notebook))
    assert (tmp_path / "runs").is_dir()
