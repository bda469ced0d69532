"""Executes the notebooks of colab/ from a clean kernel; as a program it saves what they say.

    python -m tests.notebooks [NAME ...]

That is how the outputs in the repository were made: at default size, with nothing in `runs/`.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]

NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))


def execute(path: Path, directory: Path, size: str) -> nbformat.NotebookNode:
    """The notebook with its outputs, run in a directory by this Python and with this resjax.

    Raises:
      nbclient.exceptions.CellExecutionError: if a cell fails, an assertion in it included.
    """
    notebook = nbformat.read(path, as_version=4)
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
        if names and path.stem not in names:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            notebook = execute(path, Path(directory), "default")
        notebook.metadata.language_info = {"name": "python"}  # the version is nobody's business
        nbformat.write(notebook, path)
        print(f"{path.name}: {time.monotonic() - began:.0f} s, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
