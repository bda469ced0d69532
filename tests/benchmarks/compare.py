"""Training steps of resjax beside those of PyTorch and of stock Flax, on this machine.

    python -m tests.benchmarks.compare                    # every work
    python -m tests.benchmarks.compare resnet20 digits56  # some of them

Every candidate has a process of its own and they take turns, a few steps each, so that what else
the machine does falls on all of them. The table has the median step of each and the ratio of ours.
It needs the extra `bench`.
"""

import argparse
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection

from tests.benchmarks.peers import Net, flax_step, torch_step

CIFAR = {
    "expansion": 1,
    "large_stem": False,
    "shortcut": "identity",
    "image": (32, 32, 3),
    "classes": 10,
}
IMAGENET = {"large_stem": True, "shortcut": "projection", "classes": 1000}
FOUR = (64, 128, 256, 512)

WORKS = {
    # name: the network for the peers, the batch, and the config of resjax for the same
    "resnet20": (Net((3,) * 3, (16, 32, 64), **CIFAR), 128, {"model.depth": 20}),
    "resnet56": (Net((9,) * 3, (16, 32, 64), **CIFAR), 64, {"model.depth": 56}),
    "resnet18": (
        Net((2, 2, 2, 2), FOUR, 1, image=(64, 64, 3), **IMAGENET), 32,
        {"model.name": "imagenet", "model.depth": 18, "model.shortcut": "projection"},
    ),
    "resnet50": (
        Net((3, 4, 6, 3), FOUR, 4, image=(96, 96, 3), **IMAGENET), 16,
        {"model.name": "imagenet", "model.depth": 50, "model.shortcut": "projection"},
    ),
    "digits56": (
        Net((9,) * 3, (8, 16, 32), **CIFAR | {"image": (8, 8, 1)}), 64,
        {"model.depth": 56, "model.width": 8},
    ),
}  # fmt: skip


def ours_step(settings: dict, net: Net, batch: int):
    import jax

    from resjax.config import default_config
    from resjax.training.benchmark import compile_training
    from resjax.training.plan import make_plan

    config = default_config()
    size = "x".join(map(str, net.image))
    config.update_from_flattened_dict(
        {"data.name": f"fake:{size}:{net.classes}:{2 * batch}", "train.batch_size": batch}
        | settings
    )
    step, arguments, seconds = compile_training(make_plan(config))
    state, rest = arguments[0], arguments[1:]

    def take():
        nonlocal state
        state = jax.block_until_ready(step(state, *rest))

    take.compile_seconds = seconds
    return take


def ours_with_elementwise_work_by_xla(settings: dict, net: Net, batch: int):
    from resjax.training import parallel

    parallel._as_compiled = lambda share, donate_argnums: share
    return ours_step(settings, net, batch)


CANDIDATES = {
    "resjax": lambda work: ours_step(work[2], *work[:2]),
    "resjax, loops": lambda work: ours_step(work[2] | {"model.unroll": "1"}, *work[:2]),
    "resjax, elementwise by XLA": lambda work: ours_with_elementwise_work_by_xla(
        work[2], *work[:2]
    ),
    "torch": lambda work: torch_step(*work[:2]),
    "torch, channels last": lambda work: torch_step(*work[:2], channels_last=True),
    "stock flax": lambda work: flax_step(*work[:2]),
}


def worker(candidate: str, name: str, pipe: Connection) -> None:
    step = CANDIDATES[candidate](WORKS[name])
    step(), step()
    pipe.send(getattr(step, "compile_seconds", None))
    while seconds := pipe.recv():
        times, end = [], time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            step()
            times.append(1e3 * (time.perf_counter() - start))
        pipe.send(times)


def compare(
    name: str, candidates: list[str], rounds: int, seconds: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds of a step, the median over all rounds, and seconds to compile ours."""
    context = multiprocessing.get_context("spawn")
    pipes, compiled, times = {}, {}, {candidate: [] for candidate in candidates}
    for candidate in candidates:
        pipes[candidate], theirs = context.Pipe()
        context.Process(target=worker, args=(candidate, name, theirs), daemon=True).start()
        theirs.close()  # so that the end of the process is the end of the pipe
        compiled[candidate] = pipes[candidate].recv()
    for _ in range(rounds):
        for candidate, pipe in pipes.items():
            pipe.send(seconds)
            times[candidate] += pipe.recv()
    for pipe in pipes.values():
        pipe.send(0)
    return {candidate: statistics.median(own) for candidate, own in times.items()}, {
        candidate: seconds for candidate, seconds in compiled.items() if seconds is not None
    }


def _work(name: str) -> str:
    if name not in WORKS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(WORKS)}")
    return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("works", nargs="*", metavar="WORK", help=", ".join(WORKS), type=_work)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of a turn")
    parser.add_argument("--only", default=";".join(CANDIDATES), help="candidates, by semicolon")
    options = parser.parse_args()
    only = options.only.split(";")
    if set(only) - CANDIDATES.keys() or "resjax" not in only:
        parser.error(f"--only={options.only!r}: resjax and some of {'; '.join(CANDIDATES)}")
    names = [name for name in CANDIDATES if name in only]
    print("| work | " + " | ".join(f"{name}, ms" for name in names) + " | ours / best torch |"
          " ours / stock flax | loops / ours | compilation |", flush=True)  # fmt: skip
    print("|---" * (len(names) + 5) + "|", flush=True)
    for work in options.works or WORKS:
        ms, compiled = compare(work, names, options.rounds, options.seconds)
        peers = {
            "torch": min((ms[name] for name in ms if "torch" in name), default=None),
            "flax": ms.get("stock flax"),
        }
        ours = ms["resjax"]
        ratios = [ours / peer if peer else float("nan") for peer in peers.values()]
        ratios.append(ms.get("resjax, loops", float("nan")) / ours)
        cells = [f"{ms[name]:.1f}" for name in names] + [f"{ratio:.2f}" for ratio in ratios]
        seconds = "; ".join(f"{name} {found:.1f} s" for name, found in compiled.items())
        print(f"| {work} | " + " | ".join(cells) + f" | {seconds} |", flush=True)


if __name__ == "__main__":
    main()
