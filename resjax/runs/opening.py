"""Opening of the directory in which a run is about to train."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from resjax.buckets.faults import Unanswered
from resjax.runs import checkpoint, rundir
from resjax.runs.claims import Claim, Claimed
from resjax.runs.summary import Progress, Summary, read_summary
from resjax.runs.sync import at_work
from resjax.training import hosts


@dataclasses.dataclass(frozen=True)
class OpenDirectory:
    """A directory that is open for a run.

    Attributes:
      config: config of the run.
      observe: called with its progress.
      claim: claim of the directory; hosts other than the first have none.
      result: the result, if the run is done.
    """

    directory: Path
    config: ConfigDict
    observe: Callable[[Progress], None]
    claim: Claim | None
    result: Summary | None

    def refuse_lost(self) -> None:
        """Makes sure that the directory is not another process's by now; asks no storage.

        Raises:
          Claimed: if it is, as this process was stalled for too long.
        """
        if self.claim and self.claim.lost:
            raise Claimed(
                f"{self.directory} was taken over by another process while this one stood still; "
                "leave it to that one"
            )


@contextmanager
def open_directory(
    directory: Path, config: ConfigDict, observe: Callable[[Progress], None]
) -> Iterator[OpenDirectory]:
    """Makes a directory a run's and claims it, on the first host; every host calls this.

    Raises:
      ConfigError: before anything is written, if the directory is another run's.
      Claimed: if another process runs there, or the bucket does not tell.
    """
    with ExitStack() as stack:
        claims: list[Claim] = []

        def begin() -> dict[str, Any]:
            """Opens it; returns for all hosts {"done": the result}, {"claimed": by whom}, or {}."""
            rundir.refuse_other_config(directory, config)
            if rundir.run_state(directory) != rundir.DONE:
                rundir.make_directory(directory)
                try:
                    claims.append(stack.enter_context(at_work(directory)))
                except (Claimed, Unanswered) as error:
                    return {"claimed": str(error)}
            if rundir.run_state(directory) == rundir.DONE:  # also by who had the lock before
                return {"done": read_summary(directory).recorded()}
            rundir.begin_run(directory, config)
            checkpoint.remove_partial(directory)
            return {}

        begun = hosts.on_first(begin)
        if "claimed" in begun:
            raise Claimed(begun["claimed"])
        result = Summary(**begun["done"]) if "done" in begun else None
        yield OpenDirectory(directory, config, observe, claims[0] if claims else None, result)
