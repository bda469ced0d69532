"""The states in which the runs of a program begin: drawn, read, grown, or those of checkpoints."""

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
"""Training images whose statistics the new blocks of a grown network start with."""

PLACE = ("step", "evaluated", "grown")
"""Fields of the facts of a checkpoint that tell where a run is."""


def start_or_resume(
    plan: Plan, members: Sequence[Member], feed: Feed
) -> tuple[list[Member], TrainState]:
    """The runs that can go on together, and the state of their lanes.

    It is that before the first step, or that of a checkpoint that is whole.
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
    """The deep nets' states that compute what the shallow ones do.

    They have the parameters that are trained and not their averages; momentum and averages start
    anew.
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
    """The state of all lanes; one that is no member's has that of the first."""
    by_lane, [(_, first), *_] = {member.lane: state for member, state in states}, states
    stacked = plan.lanes.stack([by_lane.get(n, first) for n in range(len(plan.lanes.seeds))])
    return plan.parallel.whole(stacked) if plan.lanes.several else stacked


def _of_one_step(found: list[list[dict[str, Any]]]) -> dict[int, dict[str, Any] | None]:
    """The runs that can go on together, by number, and the checkpoint from which each does.

    They are the most that are at one step, at the latest such; None is a run's start. As all save
    at the same steps these are all runs, unless checkpoints were lost.
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
