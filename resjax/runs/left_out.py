"""Images that a run left out as unreadable: reported once, and listed in its directory."""

from collections.abc import Mapping
from pathlib import Path

from resjax.runs import disk, files


def record_left_out(directory: Path, found: Mapping[str, Mapping[str, str]]) -> str | None:
    """Adds images to the list of a run; returns a line about them if any is new there.

    Args:
      directory: directory of the run.
      found: {split: {image: complaint}}.
    """
    before = _listed(directory)
    listed = {split: before.get(split, {}) | dict(found[split]) for split in found}
    listed = {split: images for split, images in listed.items() if images}
    if listed == before:
        return None
    disk.write_json(directory / files.LEFT_OUT, listed)
    counts = " and ".join(f"{len(images)} of {split}" for split, images in listed.items())
    name, why = next(iter(next(iter(listed.values())).items()))
    return (
        f"images that cannot be read are left out, {counts}; the first is {name} ({why}); all are "
        f"in {directory / files.LEFT_OUT}"
    )


def number_left_out(directory: Path) -> dict[str, dict[str, int]]:
    """Counts {"left_out": {split: number}} of a run, if there are any."""
    numbers = {split: len(images) for split, images in _listed(directory).items()}
    return {"left_out": numbers} if numbers else {}


def _listed(directory: Path) -> dict[str, dict[str, str]]:
    path = directory / files.LEFT_OUT
    return disk.read_json(path) if path.exists() else {}
