"""Training runs that differ in their seed one after another, and side by side in one program.

    python -m tests.benchmarks.seeds
    python -m tests.benchmarks.seeds --seeds=2,8 --conv=xla

ResNet-20 on resident images of 32x32 that are cropped and mirrored. The programs take turns, a call
each, so that what else the machine does falls on all of them. A row tells how many images of all
runs together are trained on in a second, and how many times those of a run that is alone. By this
ratio `resjax.training.platforms.PLATFORMS` should decide.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import jax

from resjax.config import default_config
from resjax.training.benchmark import compile_steps, compile_training
from resjax.training.initial import drawn_state
from resjax.training.plan import Plan, make_plan
from resjax.training.seeds import FeedSideBySide, side_by_side, stack_runs


def caller(plan: Plan, runs: int) -> tuple[Callable[[], None], float]:
    """A function that makes one call of the training steps and waits, and seconds to compile it."""
    if runs == 1:
        steps, (state, *rest), compile_seconds = compile_training(plan)
    else:
        drawn = stack_runs([drawn_state(plan, grown=True)] * runs)
        plan = side_by_side(plan, tuple(range(runs)))
        state, feed = plan.parallel.whole(drawn), FeedSideBySide(plan)
        steps, (state, *rest), compile_seconds = compile_steps(plan, state, feed)

    def call() -> None:
        nonlocal state
        state = jax.block_until_ready(steps(state, *rest))

    return call, compile_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="2,4,8", help="numbers of runs (default: 2,4,8)")
    parser.add_argument("--data", default="fake:32x32x3:10:50000", help="data.name")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--width", type=int, default=0, help="0 is the family's own")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--conv", default="auto", help="model.conv: auto or xla (default: auto)")
    parser.add_argument("--unroll", default="auto", help="model.unroll (default: auto)")
    parser.add_argument("--steps-per-call", type=int, default=0, help="0 is the device's own")
    parser.add_argument("--seconds", type=float, default=60.0, help="of all turns together")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each row")
    options = parser.parse_args()
    config = default_config()
    config.data.name, config.data.pad, config.data.flip = options.data, 4, True
    config.model.width = options.width
    config.model.depth, config.train.batch_size = options.depth, options.batch
    config.model.dtype, config.model.conv = options.dtype, options.conv
    config.model.unroll = options.unroll
    config.train.steps_per_call, config.train.devices = options.steps_per_call, 1
    plan = make_plan(config)
    numbers = [1, *map(int, options.seeds.split(","))]
    programs = {runs: caller(plan, runs) for runs in numbers}
    times = {runs: [] for runs in numbers}
    for call, _ in programs.values():
        call(), call()
    end = time.perf_counter() + options.seconds
    while time.perf_counter() < end:
        for runs, (call, _) in programs.items():
            start = time.perf_counter()
            call()
            times[runs].append((time.perf_counter() - start) / plan.steps_per_call)
    medians = {runs: statistics.median(own) for runs, own in times.items()}
    device, images = jax.devices()[0].device_kind, options.batch
    if not options.json:
        print(f"ResNet-{options.depth}, {options.data}, batch {images}, {options.dtype}, {device}, "
              f"{len(times[1])} turns of {plan.steps_per_call} steps\n\n"
              "| runs | ms a step of all | images/s | of one alone | compile s |\n"
              "|---|---|---|---|---|")  # fmt: skip
    for runs, seconds in medians.items():
        row = {
            "runs": runs, "step_ms": 1e3 * seconds, "images_per_second": runs * images / seconds,
            "ratio": runs * medians[1] / seconds, "compile_seconds": programs[runs][1],
        }  # fmt: skip
        if options.json:
            print(json.dumps({"device": device, "depth": options.depth, "batch": images, **row}))
        else:
            print("| {runs} | {step_ms:.2f} | {images_per_second:,.0f} | {ratio:.2f} | "
                  "{compile_seconds:.1f} |".format(**row))  # fmt: skip


if __name__ == "__main__":
    main()
