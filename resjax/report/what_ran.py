"""What ran, for the page of a report: the training in a line, and settings and surroundings."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from resjax.config import flatten
from resjax.config.naming import differing_keys
from resjax.config.text import several
from resjax.report.arms import ArmTable
from resjax.report.runs import Run

NOT_COMPARED = ("run", "params", "multiply_adds", "seconds", "files")
"""Entries of a manifest that naturally differ from run to run."""

MOST_NAMED = 4
"""Maximum number of networks or values that the line names; more are counted."""


def training(runs: Sequence[Run], tables: Iterable[ArmTable]) -> str:
    """The networks, data, duration, optimiser and batches of the runs, also where all are usual."""
    names = list(dict.fromkeys(arm.name for table in tables for arm in table.arms))
    networks = several(len(names), "network")
    if len(names) <= MOST_NAMED:
        networks += f" ({', '.join(names)})"
    depths = _values(runs, "model.depth", "depths", "and")
    optimiser = _values(runs, "optim.name", "optimisers")
    seeds = several(len({run.seed for run in runs}), "seed")
    return (
        f"{networks}, {depths} layers, {seeds}; trained on {_data(runs)} for "
        f"{_values(runs, 'train.duration', 'durations')} by {optimiser}, "
        f"learning rate {_values(runs, 'optim.learning_rate', 'values')} "
        f"({_values(runs, 'optim.schedule', 'schedules')}), "
        f"batches of {_values(runs, 'train.batch_size', 'sizes')}."
    )


def _values(runs: Sequence[Run], key: str, noun: str, word: str = "or") -> str:
    """The values of a key, such as "0.05 or 0.1", or how many there are."""
    values = {run.config[key] for run in runs}
    if len(values) > MOST_NAMED:
        return f"{len(values)} {noun}"
    texts = [str(value) for value in sorted(values)]
    return f" {word} ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def _data(runs: Sequence[Run]) -> str:
    """The data, with the examples of its splits where it is one and all runs recorded the same."""
    name = _values(runs, "data.name", "data sets")
    if len({run.config["data.name"] for run in runs}) > 1:
        return name
    recorded = [run.manifest.get("data") for run in runs]
    train, test = (_examples(recorded, split) for split in ("train", "test"))
    tested = f", {test:,} to test" if test else ""
    return f"{name} ({train:,} examples{tested})" if train else name


def _examples(recorded: Sequence[Any], split: str) -> int | None:
    """The examples of a split in all of the manifests; None unless they are equal."""
    counts = {data.get(split) if isinstance(data, dict) else None for data in recorded}
    count = counts.pop()
    return count if isinstance(count, int) and not counts else None


def recipe(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Keys, with their values, that all runs share and that differ from the defaults."""
    keys = [run.keys for run in runs]
    same = keys[0].keys() - set(differing_keys(keys)) - {"model.depth", "seed"}
    return [(key, str(runs[0].config[key])) for key in sorted(same)]


def manifest(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Entries of the manifests, each with all of its values and, if they differ, their counts."""
    counted: dict[str, Counter[str]] = {}
    for run in runs:
        kept = {key: value for key, value in run.manifest.items() if key not in NOT_COMPARED}
        for key, value in flatten(kept).items():
            counted.setdefault(key, Counter())[str(value)] += 1
    for values in counted.values():
        if without := len(runs) - values.total():
            values["not recorded"] = without
    return {
        key: [value if n == len(runs) else f"{value} ({n} of {len(runs)} runs)"
              for value, n in values.items()]
        for key, values in counted.items()
    }  # fmt: skip
