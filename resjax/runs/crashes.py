"""Crashes: errors of the program or of an experiment that end runs, recorded in `error.txt`."""

import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from resjax.buckets.faults import Unanswered
from resjax.config import ConfigError, type_and_message
from resjax.runs import disk, files, room, sync
from resjax.runs.divergence import Diverged
from resjax.runs.summary import Progress
from resjax.training import hosts


class Crashed(RuntimeError):
    """A run was ended by an error of the program or an experiment, recorded in `error.txt`."""


class Observing:
    """Observers of runs, whose errors are not those of the runs.

    Attributes:
      error: the error that one of them has raised, if one has.
    """

    error: BaseException | None = None

    def __call__(self, observe: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """An observer that does the same; its error is kept."""

        def observed(progress: Progress) -> None:
            try:
                observe(progress)
            except BaseException as error:
                self.error = error
                raise

        return observed


@contextmanager
def crashes_recorded(directories: Collection[Path]) -> Iterator[Observing]:
    """Records an error that ends the runs in the block, unless of the user or the disk.

    An error of an observer, as that of a display, ends the block and leaves the runs unfinished, as
    an interruption does. Yields what tells such errors from others; it is called with an observer.

    Args:
      directories: those of the runs; the block may take some out that an error does not end.

    Raises:
      Crashed: with the error in a line.
      NoRoom: if what a run writes did not fit.
    """
    observing = Observing()
    try:
        with room.refused(next(iter(directories), Path()), "what a run writes did not fit"):
            yield observing
    except (ConfigError, Diverged, Unanswered):
        raise
    except (Exception, GeneratorExit, SystemExit) as error:  # a shortcut of one's own may leave
        if observing.error is not None:
            raise observing.error from None
        if isinstance(error, room.NoRoom):
            raise
        reason = type_and_message(error)
        if hosts.is_first():
            trace = "".join(traceback.format_exception(error))
            for directory in directories:
                disk.write_text(directory / files.ERROR, f"{reason}\n\n{trace}")
                sync.upload_rest(directory)
        raise Crashed(reason) from error
