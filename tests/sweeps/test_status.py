from resjax.sweeps.status import look
from resjax.training import claims, rundir


def test_a_run_that_goes_on_and_still_compiles_has_no_speed(tiny, tmp_path):
    with claims.claimed(tmp_path):
        rundir.begin_run(tmp_path, tiny)
        progress = {"at": 1.0, "phase": "compiling", "step": 36, "steps": 100}
        rundir.write_progress(tmp_path, progress)
        status = look(tmp_path)
    assert (status.state, status.step, status.seconds_left) == ("compiling", 36, None)
