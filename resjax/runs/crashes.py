"""Crashes: errors of the program or of an experiment that end runs, recorded in `error.txt`."""

import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from resjax.buckets.faults import Unanswered
from resjax.config import ConfigError, type_and_message
from resjax.runs import disk, room, sync
from resjax.runs.divergence import Diverged
from resjax.training import hosts


class Crashed(RuntimeError):
    """A run was ended by an error of the program or an experiment, recorded in `error.txt`."""


@contextmanager
def crashes_recorded(directories: Collection[Path]) -> Iterator[None]:
    """Records an error that ends the runs in the block, unless of the user or the disk.

    Args:
      directories: those of the runs; the block may take some out that an error does not end.

    Raises:
      Crashed: with the error in a line.
      NoRoom: if what a run writes did not fit.
    """
    try:
        with room.refused(next(iter(directories), Path()), "what a run writes did not fit"):
            yield
    except (ConfigError, Diverged, room.NoRoom, Unanswered):
        raise
    except (Exception, GeneratorExit, SystemExit) as error:  # a shortcut of one's own may leave
        reason = type_and_message(error)
        if hosts.is_first():
            trace = "".join(traceback.format_exception(error))
            for directory in directories:
                disk.write_text(directory / "error.txt", f"{reason}\n\n{trace}")
                sync.upload_rest(directory)
        raise Crashed(reason) from error
