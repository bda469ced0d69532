"""Images that a run left out, as they could not be read: told once and listed in its directory."""

import warnings
from collections.abc import Mapping
from pathlib import Path

from resjax.training import rundir

FILE = "left_out.json"
"""{split: {what an image is found by: what is wrong with it}}; it exists if there are any."""


def record_left_out(directory: Path, found: Mapping[str, Mapping[str, str]]) -> dict[str, int]:
    """Adds what was found to the list of a run, and warns of what was not there yet.

    Args:
      directory: of the run.
      found: as `FILE` is.

    Returns:
      The number in each split that has any.
    """
    path = directory / FILE
    before = rundir.read_json(path) if path.exists() else {}
    listed = {split: before.get(split, {}) | dict(found[split]) for split in found}
    listed = {split: images for split, images in listed.items() if images}
    if listed != before:
        rundir.write_json(path, listed)
        counts = " and ".join(f"{len(images)} of {split}" for split, images in listed.items())
        name, why = next(iter(next(iter(listed.values())).items()))
        warnings.warn(
            f"images that cannot be read are left out, {counts}; the first is {name} ({why}); all "
            f"are in {path}",
            stacklevel=2,
        )
    return {split: len(images) for split, images in listed.items()}
