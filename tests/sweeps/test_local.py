import json

import jax
import jax.numpy as jnp
import pytest

from resjax.buckets.store import Store
from resjax.config import ConfigError
from resjax.config.addresses import Address
from resjax.runs import claims, disk, rundir
from resjax.runs.doctor import examine
from resjax.runs.loop import fit
from resjax.runs.scratch import workplace
from resjax.runs.status import look
from resjax.runs.summary import Outcome
from resjax.runs.together import train_side_by_side
from resjax.sweeps import local
from resjax.sweeps.local import run_sweep
from resjax.training import hosts


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

    def waiting(self, directories):
        self.events.append(("waiting", [directory.name for directory in directories]))


def grid_of_two(tiny, tmp_path):
    other = tiny.copy_and_resolve_references()
    other.model.shortcut = "none"
    return {tmp_path / "identity": tiny, tmp_path / "none": other}


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_bucket_that_is_silent_between_two_runs_is_waited_for(
    tiny, tmp_path, one_bucket, fresh, monkeypatch
):
    """Neither the look at the runs nor the claim of the next one ends the sweep."""
    monkeypatch.setattr(Store.__init__, "__defaults__", (0.2, lambda line: None))
    monkeypatch.setattr(local, "SECONDS_BETWEEN_RENEWALS", 0.0)
    directory = workplace(Address.of(one_bucket.address(fresh)), tmp_path)
    silences = []

    class Silenced(Recorder):
        def finished(self, outcome):
            super().finished(outcome)
            one_bucket.faults.down = outcome.directory.name == "identity"

        def waiting(self, directories):
            silences.append(one_bucket.faults.down)
            one_bucket.faults.down = len(silences) < 2

    recorder = Silenced()
    outcomes = run_sweep(grid_of_two(tiny, directory), recorder)
    assert not any(outcome.error for outcome in outcomes)
    assert [event for event in recorder.events if event[0] == "finished"] == [
        ("finished", "identity"), ("finished", "none"),
    ]  # fmt: skip
    assert silences == [True, True]
    uploaded = {entry.name for entry in Store(Address.of(one_bucket.address(fresh))).list()}
    assert {"identity/result.json", "none/result.json"} <= uploaded


@pytest.mark.slow
def test_a_run_that_diverges_is_recorded_and_the_rest_go_on(tiny, tmp_path):
    runs, recorder = grid_of_two(tiny, tmp_path), Recorder()
    runs[tmp_path / "identity"].optim.learning_rate = 1e20
    outcomes = run_sweep(runs, recorder)
    assert [bool(outcome.error) for outcome in outcomes] == [True, False]
    assert rundir.run_state(tmp_path / "identity") == rundir.FAILED
    assert rundir.run_state(tmp_path / "none") == rundir.DONE


@pytest.mark.slow
def test_a_run_that_crashes_is_recorded_with_its_traceback_and_the_rest_go_on(
    tiny, tmp_path, monkeypatch
):
    runs = grid_of_two(tiny, tmp_path)

    def crash(run):
        if run.directory.name == "identity":
            raise ZeroDivisionError("in the\nmiddle")
        return fit(run)

    monkeypatch.setattr("resjax.runs.together.fit", crash)
    outcomes = run_sweep(runs, Recorder())
    assert [outcome.error for outcome in outcomes] == ["ZeroDivisionError: in the middle", None]
    text = (tmp_path / "identity" / "error.txt").read_text()
    assert text.startswith("ZeroDivisionError: in the middle\n\nTraceback")
    again = run_sweep(runs, Recorder())
    assert "--retry tries again" in again[0].error


@pytest.mark.slow
def test_what_failed_is_tried_again_if_asked_for(tiny, tmp_path):
    runs = {tmp_path / "run": tiny}
    tiny.optim.learning_rate = 1e20
    run_sweep(runs, Recorder())
    assert run_sweep(runs, Recorder())[0].skipped
    assert not run_sweep(runs, Recorder(), retry=True)[0].skipped


@pytest.mark.slow
def test_runs_of_other_processes_are_left_to_them_and_waited_for(tiny, tmp_path, monkeypatch):
    runs, recorder = grid_of_two(tiny, tmp_path), Recorder()
    (tmp_path / "identity").mkdir()
    other = claims.claimed(tmp_path / "identity")
    other.__enter__()
    rundir.begin_run(tmp_path / "identity", tiny)
    monkeypatch.setattr("resjax.sweeps.local.SECONDS_TO_LOOK_AGAIN", 0.0)
    monkeypatch.setattr(recorder, "waiting", lambda _: other.__exit__(None, None, None))
    outcomes = run_sweep(runs, recorder)
    assert [name for end, name in recorder.events if end == "finished"] == ["none", "identity"]
    assert all(outcome.summary for outcome in outcomes)


def seeds_side_by_side(tiny, tmp_path, most=2):
    tiny.train.side_by_side = most
    runs = {}
    for seed in range(3):
        runs[tmp_path / str(seed)] = tiny.copy_and_resolve_references()
        runs[tmp_path / str(seed)].seed = seed
    return runs


@pytest.mark.slow
def test_seeds_are_trained_side_by_side_and_each_is_a_run_of_its_own(tiny, tmp_path):
    runs, recorder = seeds_side_by_side(tiny, tmp_path), Recorder()
    at_once, progressed = set(), recorder.progressed

    def look_at_all(directory, progress):
        progressed(directory, progress)
        if progress.phase == "evaluating":
            at_once.add(tuple(look(run).state for run in runs))

    recorder.progressed = look_at_all
    outcomes = run_sweep(runs, recorder)
    assert recorder.events == [
        ("started", "0"), ("started", "1"), ("finished", "0"), ("finished", "1"),
        ("started", "2"), ("finished", "2"),
    ]  # fmt: skip
    # While the first two are at work both are seen to be.
    assert any("waiting" not in states[:2] and states[2] == "waiting" for states in at_once)
    assert [outcome.directory for outcome in outcomes] == list(runs)
    assert {status.state for status in map(look, runs)} == {"done"}
    assert {finding.state for finding in map(examine, runs)} == {rundir.DONE}
    groups = [disk.read_json(run / "manifest.json")["execution"]["side_by_side"] for run in runs]
    assert groups == [[0, 1], [0, 1], None]
    losses = {outcome.summary.train_loss for outcome in outcomes}
    assert len(losses) == 3


@pytest.mark.slow
def test_what_is_left_of_a_group_goes_on_when_others_are_done(tiny, tmp_path):
    """Killed between two results; the second ends with the bits that it had."""
    runs = seeds_side_by_side(tiny, tmp_path)
    before = run_sweep(runs, Recorder())
    (tmp_path / "1" / "result.json").unlink()
    recorder = Recorder()
    again = run_sweep(runs, recorder)
    ends = [event for event in recorder.events if event[0] != "started"]
    assert ends == [("skipped", "0"), ("finished", "1"), ("skipped", "2")]
    assert [outcome.summary.test_loss for outcome in again] == [
        outcome.summary.test_loss for outcome in before
    ]


@pytest.mark.slow
def test_after_a_crash_the_runs_that_it_did_not_end_go_on(tiny, tmp_path, monkeypatch):
    runs = seeds_side_by_side(tiny, tmp_path, most=3)
    begun = []

    def crash(group):
        begun.append([run.name for run in group.working()])
        if len(begun) == 1:
            with group.opened():
                group.runs[1].idle = True  # as one that cannot go on with the others
                raise ZeroDivisionError("in the middle")
        return fit(group)

    monkeypatch.setattr("resjax.runs.together.fit", crash)
    outcomes = run_sweep(runs, Recorder())
    assert begun == [["0", "1", "2"], ["1"]]
    errors = [outcome.error for outcome in outcomes]
    assert errors == ["ZeroDivisionError: in the middle", None, "ZeroDivisionError: in the middle"]
    assert rundir.run_state(tmp_path / "1") == rundir.DONE


@pytest.mark.slow
def test_one_seed_that_diverges_fails_alone(tiny, tmp_path, monkeypatch):
    from resjax.training.state import create_state

    def lost(model, optimizer, seed, *options):
        state = create_state(model, optimizer, seed, *options)
        return state if seed else state.replace(params=jax.tree.map(jnp.log, state.params))

    monkeypatch.setattr("resjax.training.initial.create_state", lost)
    runs = seeds_side_by_side(tiny, tmp_path)
    outcomes = run_sweep(runs, Recorder())
    assert [bool(outcome.error) for outcome in outcomes] == [True, False, False]
    assert "the training loss became nan" in look(tmp_path / "0").why


def test_a_run_that_another_process_began_first_is_left_to_it_on_all_hosts(
    tiny, tmp_path, monkeypatch
):
    def as_others_are_told(function):
        try:
            return json.loads(json.dumps(function()))
        except ConfigError as error:
            raise ConfigError(str(error)) from None

    monkeypatch.setattr(hosts, "on_first", as_others_are_told)
    (tmp_path / "run").mkdir()
    with claims.claimed(tmp_path / "run"):
        ended = train_side_by_side({tmp_path / "run": tiny}, lambda *_: None)
    assert isinstance(ended[tmp_path / "run"], claims.Claimed)
