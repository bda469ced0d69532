"""Initial states of the runs of a program: drawn, read from weights, grown, or from checkpoints."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resjax.models.grow import grow
from resjax.ops.random import random_key
from resjax.runs.checkpoint import Facts
from resjax.runs.member import Member
from resjax.training import hosts
from resjax.training.feeds import Feed
from resjax.training.plan import Plan
from resjax.training.state import TrainState, begin_training, create_state

IMAGES_TO_GROW_ON = 1024
"""Number of training images on which growing measures the running statistics of new blocks."""

PLACE = ("step", "evaluated", "grown")
"""Fields of a checkpoint's `Facts` that say how far the run has got."""


def start_or_resume(
    plan: Plan, members: Sequence[Member], feed: Feed
) -> tuple[list[Member], TrainState]:
    """Returns the runs that can go on together, and the state of all lanes.

    A run starts before its first step, or resumes from a checkpoint whose files all verify.
    """
    found = _of_one_step([hosts.on_first(member.checkpoints_found) for member in members])
    together, lanes = [members[number] for number in found], len(plan.lanes.seeds)
    if empty := lanes - len(together):
        together[0].tell("compiling", _empty_lanes(empty, lanes))
    grown = any(there and there["facts"]["grown"] for there in found.values())
    model = plan.shallow if plan.shallow and not grown else plan.model
    states = []
    for member, there in zip(together, found.values(), strict=True):
        seed, decay = member.plan.config.seed, plan.config.train.ema_decay
        state = create_state(model, plan.optimizer, seed, plan.image_shape, decay)
        if there:
            state = member.go_on_from(Path(there["path"]), Facts(**there["facts"]), state)
        elif plan.start:
            state = _started(plan, feed, state, seed)
        states.append((member, state))
    return together, _stacked(plan, states)


def grow_all(plan: Plan, states: Sequence[tuple[Member, TrainState]], feed: Feed) -> TrainState:
    """Grows each run's shallow network to the deep one, which computes the same function.

    It copies the trained parameters, not their moving averages; momentum and averages start anew.
    """
    seen, grown = feed.first_examples("train", IMAGES_TO_GROW_ON).images, []
    for member, state in states:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        key = random_key(member.plan.config.seed)
        variables = grow(variables, plan.shallow, plan.model, key, seen)
        begun = begin_training(
            variables, plan.optimizer, state.metrics.loss.dtype, plan.config.train.ema_decay
        )
        kept = {name: getattr(state, name) for name in ("step", "metrics", "skipped_updates")}
        grown.append((member, plan.parallel.whole(begun.replace(**kept))))
    return _stacked(plan, grown)


def _started(plan: Plan, feed: Feed, drawn: TrainState, seed: int) -> TrainState:
    """The state before the first step of a run that starts from the weights of another."""
    seen = feed.first_examples("train", IMAGES_TO_GROW_ON) if plan.start.shallow else None
    variables = {"params": drawn.params, "batch_stats": drawn.batch_stats}
    images = None if seen is None else seen.images
    variables = plan.start.variables(variables, plan.model, random_key(seed), images)
    decay = plan.config.train.ema_decay
    begun = begin_training(variables, plan.optimizer, drawn.metrics.loss.dtype, decay)
    return plan.parallel.whole(begun)


def _stacked(plan: Plan, states: Sequence[tuple[Member, TrainState]]) -> TrainState:
    """Stacks the states by lane; a lane without a run gets the state of the first run."""
    by_lane, [(_, first), *_] = {member.lane: state for member, state in states}, states
    stacked = plan.lanes.stack([by_lane.get(n, first) for n in range(len(plan.lanes.seeds))])
    return plan.parallel.whole(stacked) if plan.lanes.several else stacked


def _of_one_step(found: list[list[dict[str, Any]]]) -> dict[int, dict[str, Any] | None]:
    """Selects the runs that can go on together: {number of a run: its checkpoint}.

    These are the most runs that have a checkpoint of one step, or their start, which is None; if
    several steps have as many, the latest wins. As all runs save at the same steps, all can go on
    unless checkpoints were lost.
    """
    at: dict[tuple, dict[int, dict[str, Any] | None]] = {}
    for number, checkpoints in enumerate(found):
        for one in checkpoints or [None]:
            place = tuple(one["facts"][key] for key in PLACE) if one else (0, 0, False)
            at.setdefault(place, {}).setdefault(number, one)
    return at[max(at, key=lambda place: (len(at[place]), place))]


def _empty_lanes(empty: int, lanes: int) -> str:
    return (
        f"{empty} of the {lanes} runs that were begun together are not trained now, and computed "
        "along for the sake of the bits; train.side_by_side=1 goes on without them"
    )
