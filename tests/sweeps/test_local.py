from resjax.sweeps.local import Outcome, run_sweep
from resjax.training import rundir


class Recorder:
    def __init__(self):
        self.events, self.phases = [], set()

    def started(self, directory):
        self.events.append(("started", directory.name))

    def progressed(self, directory, progress):
        self.phases.add(progress.phase)

    def finished(self, outcome: Outcome):
        end = "failed" if outcome.error else "skipped" if outcome.skipped else "finished"
        self.events.append((end, outcome.directory.name))


def grid_of_two(tiny, tmp_path):
    other = tiny.copy_and_resolve_references()
    other.model.shortcut = "none"
    return {tmp_path / "identity": tiny, tmp_path / "none": other}


def test_what_is_done_is_not_trained_again(tiny, tmp_path):
    runs, first, second = grid_of_two(tiny, tmp_path), Recorder(), Recorder()
    outcomes = run_sweep(runs, first)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*")}
    again = run_sweep(runs, second)
    ends = ("started", "finished")
    assert first.events == [(end, name) for name in ("identity", "none") for end in ends]
    assert second.events == [("skipped", "identity"), ("skipped", "none")]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*")} == before
    assert [outcome.summary for outcome in again] == [outcome.summary for outcome in outcomes]
    assert first.phases >= {"compiling", "evaluating"}


def test_a_run_that_diverges_is_recorded_and_the_rest_go_on(tiny, tmp_path):
    runs, recorder = grid_of_two(tiny, tmp_path), Recorder()
    runs[tmp_path / "identity"].optim.learning_rate = 1e20
    outcomes = run_sweep(runs, recorder)
    assert [bool(outcome.error) for outcome in outcomes] == [True, False]
    assert rundir.run_state(tmp_path / "identity") == rundir.FAILED
    assert rundir.run_state(tmp_path / "none") == rundir.DONE
