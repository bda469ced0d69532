"""Files of runs that commands need, chosen from the names of all files of a run or a sweep."""

import fnmatch
from collections import defaultdict
from collections.abc import Iterable

from resjax.buckets.places import Choice
from resjax.runs import files, planned

OF_UNFINISHED = frozenset({files.PROGRESS, files.ERROR, files.CLAIM})
"""Files that are irrelevant for a finished run."""


def of_runs(*names: str, beside: Iterable[str] = ()) -> Choice:
    """Chooses files by name: of the run in a directory, or of all runs below it.

    Of a run that has lost its config whatever else shows that there was one is chosen, too.

    Args:
      names: names of files of a run.
      beside: patterns of the names of files of the sweep.
    """
    wanted = {*names}

    def choose(listed: list[str]) -> list[str]:
        chosen = [name for pattern in beside for name in fnmatch.filter(listed, pattern)]
        for run, inside in _by_run(listed).items():
            of_run = wanted - OF_UNFINISHED if files.RESULT in inside else wanted
            if files.CONFIG not in inside:
                of_run = wanted | set(files.LEFT_BY_RUNS)
            chosen += [f"{run}{file}" for file in inside if file in of_run]
        return chosen

    return choose


def _by_run(listed: list[str]) -> dict[str, list[str]]:
    """{directory, with a slash: names of the files that are directly in it}, one level deep."""
    runs = defaultdict(list)
    for name in listed:
        above, slash, file = name.rpartition("/")
        if "/" not in above:
            runs[above + slash].append(file)
    return runs


STATUS = of_runs(
    files.CONFIG, files.RESULT, files.TIMING, files.PROGRESS, files.ERROR, files.CLAIM,
    beside=(planned.FILES,),
)  # fmt: skip

SHOWN_IN_STATUS = of_runs(files.ORIGIN)
"""Files whose existence alone says something of the state of a run."""

REPORT = of_runs(
    files.CONFIG, files.ORIGIN, files.MANIFEST, files.METRICS, files.RESULT, files.TIMING,
    files.PROGRESS, files.ERROR, files.CLAIM, files.PROBES,
    beside=("report/index.html", planned.FILES),
)  # fmt: skip


def weights(listed: list[str]) -> list[str]:
    """Chooses the weights of a run or, of a sweep, the config of one run, which identifies it."""
    if files.CONFIG not in listed:
        return [name for name in listed if name.endswith(f"/{files.CONFIG}")][:1]
    return [name for name in listed if name in (files.CONFIG, files.ORIGIN, files.WEIGHTS)]
