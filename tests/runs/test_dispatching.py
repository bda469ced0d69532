"""What the host does while the device is at work, told by the order of events and not by a time."""

import functools

import jax
import pytest

from resjax.runs import loop
from resjax.runs.keeper import Keeper
from resjax.runs.run import OpenRun
from resjax.training.network import Network

FOREVER = 1e9


@pytest.fixture
def events(monkeypatch):
    """Receives (what, last step of the call) of calls that are prepared, made and waited for."""
    happened, made = [], [0]

    def recorded(what, function, number=lambda *arguments: made[-1]):
        @functools.wraps(function)
        def record(*arguments):
            result = function(*arguments)
            happened.append((what, number(*arguments)))
            return result

        return record

    def move(keeper, steps, arguments, stop):
        made.append(stop)
        keep_move(keeper, steps, arguments, stop)

    keep_move = Keeper.move
    arguments = recorded("prepared", Network.arguments, lambda network, start, stop: stop)
    monkeypatch.setattr(Network, "arguments", arguments)
    monkeypatch.setattr(Keeper, "move", recorded("made", move))
    monkeypatch.setattr(jax, "block_until_ready", recorded("waited for", jax.block_until_ready))
    monkeypatch.setattr(OpenRun, "look_at", recorded("told", OpenRun.look_at))
    return happened


@pytest.mark.slow
def test_the_next_call_is_prepared_before_the_host_waits_for_the_last(
    tiny, tmp_path, monkeypatch, events
):
    """The host waits because it is ahead, and to tell the loss; here it does after every call."""
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_REPORTS", -1.0)
    monkeypatch.setattr(loop, "SECONDS_AHEAD", 0.0)
    tiny.train.duration, tiny.train.steps_per_call = "10 steps", 4
    loop.train_and_evaluate(tiny, tmp_path)
    expected = [
        ("prepared", 4),
        ("made", 4), ("prepared", 8), ("waited for", 4), ("told", 4),
        ("made", 8), ("prepared", 10), ("waited for", 8), ("told", 8),
        ("made", 10), ("waited for", 10), ("told", 10),
    ]  # fmt: skip
    first = events.index(("prepared", 4))
    assert events[first : first + len(expected)] == expected


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "waits"), [
    (FOREVER, [20, 340, 400]),  # for the first call, to learn how long it takes; then 16 at a time
    (0.0, range(20, 401, 20)),
])  # fmt: skip
def test_the_host_is_ahead_by_calls_however_many_steps_they_have(
    tiny, tmp_path, monkeypatch, events, seconds, waits
):
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_REPORTS", FOREVER)
    monkeypatch.setattr(loop, "SECONDS_AHEAD", seconds)
    tiny.train.steps_per_call = 20
    tiny.train.duration = tiny.eval.every = "400 steps"
    loop.train_and_evaluate(tiny, tmp_path)
    found = {step for what, step in events if what == "waited for" and step}
    assert found == set(waits)
