"""Training steps of the same network by jit over a mesh and by pmap, side by side.

    python -m tests.benchmarks.parallel
    python -m tests.benchmarks.parallel --devices=4 --depth=56

On a machine without accelerators the devices are simulated, and share its cores.
"""

import argparse
import os
import statistics
import time


def stepper(style: str, depth: int, batch: int):
    """A function that takes one training step and waits for it."""
    import jax

    from resjax.config import default_config
    from resjax.training.benchmark import compile_training
    from resjax.training.plan import make_plan

    config = default_config()
    config.model.depth, config.train.parallel = depth, style
    config.data.name, config.train.batch_size = f"fake:32x32x3:10:{2 * batch}", batch
    config.train.steps_per_call = 1
    step, (state, *rest), _ = compile_training(make_plan(config))

    def take():
        nonlocal state
        state = jax.block_until_ready(step(state, *rest))

    return take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=8, help="to simulate on a CPU (default: 8)")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn")
    options = parser.parse_args()
    flag = f"--xla_force_host_platform_device_count={options.devices}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    import jax

    steppers = {style: stepper(style, options.depth, options.batch) for style in ("jit", "pmap")}
    times = {style: [] for style in steppers}
    for take in steppers.values():
        take(), take()
    for _ in range(options.rounds):
        for style, take in steppers.items():
            end = time.perf_counter() + options.seconds
            while time.perf_counter() < end:
                start = time.perf_counter()
                take()
                times[style].append(time.perf_counter() - start)
    print(f"ResNet-{options.depth}, 32x32, batch {options.batch}, "
          f"{jax.device_count()} devices ({jax.devices()[0].device_kind})\n\n"
          "| style | steps per second | ms | jit / this |\n|---|---|---|---|")  # fmt: skip
    medians = {style: statistics.median(own) for style, own in times.items()}
    for style, seconds in medians.items():
        ratio = medians["jit"] / seconds
        print(f"| {style} | {1 / seconds:.2f} | {1e3 * seconds:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
