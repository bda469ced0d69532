"""Executes the notebooks of colab/ from a clean kernel; as a program it saves what they say.

    python -m tests.notebooks [NAME ...]
    python -m tests.notebooks --addresses

The first is how the outputs in the repository were made: at default size, with nothing in `runs/`.
The second executes nothing, and writes the address of the project into all notebooks.
"""

import os
import re
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]

NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))

ADDRESS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
"""The address of the project, from which notebooks are opened and resjax is cloned."""


def address(notebook: nbformat.NotebookNode, name: str) -> None:
    """Writes the address of the project into the badge of a notebook and into its first cell."""
    badge = "https://colab.research.google.com/assets/colab-badge.svg"
    there = ADDRESS.replace("//github.com/", "//colab.research.google.com/github/")
    for cell in notebook.cells:
        if cell.id == "badge":
            cell.source = f"[![Open in Colab]({badge})]({there}/blob/main/colab/{name}.ipynb)"
        if cell.id == "install":
            cell.source = re.sub(
                r'(?m)^REPOSITORY = ".*?"', f'REPOSITORY = "{ADDRESS}"', cell.source
            )


def add_answers(notebook: nbformat.NotebookNode) -> None:
    """Adds the code in the folded answers of a notebook, as cells at its end."""
    for cell in list(notebook.cells):
        if cell.cell_type == "markdown":
            for answer in re.findall(r"(?s)<details>.*?</details>", cell.source):
                for code in re.findall(r"(?ms)^```python\n(.*?)^```", answer):
                    notebook.cells.append(nbformat.v4.new_code_cell(code, id=f"answer-{cell.id}"))


def execute(path: Path, directory: Path, size: str) -> nbformat.NotebookNode:
    """The notebook with its outputs, run in a directory by this Python and with this resjax.

    The code of its answers is run as well, at its end.

    Raises:
      nbclient.exceptions.CellExecutionError: if a cell fails, an assertion in it included.
    """
    notebook = nbformat.read(path, as_version=4)
    add_answers(notebook)
    # Of no directory: the kernel is then that of this very Python, whatever else is installed.
    manager = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(directory)}},
    )
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    told = {"RESJAX_NOTEBOOK_SIZE": size, "PYTHONPATH": os.pathsep.join(paths)}
    return client.execute(cleanup_kc=True, env=os.environ | told)


def main(names: list[str]) -> None:
    """Executes notebooks by name, by default all, and writes them with their outputs."""
    for path in NOTEBOOKS:
        if names == ["--addresses"]:
            notebook = nbformat.read(path, as_version=4)
            address(notebook, path.stem)
            nbformat.write(notebook, path)
            continue
        if names and path.stem not in names:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            notebook = execute(path, Path(directory), "default")
        notebook.cells = [cell for cell in notebook.cells if not cell.id.startswith("answer-")]
        notebook.metadata.language_info = {"name": "python"}  # the version is nobody's business
        nbformat.write(notebook, path)
        print(f"{path.name}: {time.monotonic() - began:.0f} s, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
