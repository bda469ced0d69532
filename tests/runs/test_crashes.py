import errno
import os

import pytest

from resjax.config import ConfigError
from resjax.runs import room, rundir
from resjax.runs.crashes import Crashed, crashes_recorded
from resjax.runs.summary import Progress
from resjax.runs.together import train_side_by_side

PROGRESS = Progress("training", 1, 2, 0.5, 1.0, 0.1)

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail_by(error):
    raise error


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError(), SystemExit(1), FULL, ConfigError(""), KeyboardInterrupt()],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_an_observer_is_handed_on_and_recorded_nowhere(error, tmp_path):
    with pytest.raises(type(error)) as raised, crashes_recorded([tmp_path]) as observing:
        observing(lambda progress: fail_by(error))(PROGRESS)
    assert raised.value is error
    assert not list(tmp_path.iterdir())


def test_a_run_whose_observer_fails_is_unfinished(tiny, tmp_path):
    with pytest.raises(SystemExit):
        train_side_by_side({tmp_path: tiny}, lambda run, progress: fail_by(SystemExit(1)))
    assert rundir.run_state(tmp_path) == rundir.UNFINISHED


def test_an_error_of_the_program_is_recorded_though_an_observer_watched(tmp_path):
    def work(observing):
        observing(seen.append)(PROGRESS)
        raise SystemExit("of the program")

    seen = []
    with pytest.raises(Crashed, match="of the program"), crashes_recorded([tmp_path]) as observing:
        work(observing)
    assert seen == [PROGRESS]
    assert rundir.read_failure(tmp_path).startswith("SystemExit: of the program\n\nTraceback")


def test_a_full_disk_is_no_crash(tmp_path):
    with pytest.raises(room.NoRoom, match="no space left"), crashes_recorded([tmp_path]):
        raise FULL
    assert not list(tmp_path.iterdir())
