"""What a bucket adds to a training step, at some latency and with a checkpoint a minute.

    python -m tests.benchmarks.bucket_cost --steps=4000 --latency=0.05 --pairs=3

The same run is trained with a directory of this machine and with a bucket, in turns, each in a
process of its own; the bucket is served by another process. Of each the seconds of training and the
seconds of CPU of its process are told, by step; those of CPU depend less on what else the machine
does. `--parts` adds up what is done beside the training instead, whatever else goes on.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SERVE = """
import json, sys
from tests.buckets.servers import Simulated
simulated = Simulated("s3")
simulated.faults.latency = float(sys.argv[1])
print(json.dumps(simulated.environment), flush=True)
for line in sys.stdin:
    print(json.dumps([method for method, _ in simulated.faults.seen]), flush=True)
    simulated.faults.seen.clear()
"""


def train(steps: int, every: float, workdir: str) -> dict[str, float]:
    """Trains ResNet-20 on digits, in this process; returns the seconds of a step."""
    from resjax.config import default_config
    from resjax.config.paths import place
    from resjax.process import enable_cache
    from resjax.runs.loop import train_and_evaluate
    from resjax.runs.scratch import workplace

    enable_cache()
    config = default_config()
    config.update_from_flattened_dict({
        "model.depth": 20, "train.duration": f"{steps} steps", "checkpoint.seconds": every,
        "eval.every": f"{steps} steps",
    })  # fmt: skip
    looks: list[tuple[int, float]] = []

    def observe(progress) -> None:
        if progress.phase == "training":
            looks.append((progress.step, _cpu()))

    with tempfile.TemporaryDirectory() as scratch:
        summary = train_and_evaluate(config, workplace(place(workdir), Path(scratch)), observe)
    (first, before), (last, after) = looks[0], looks[-1]
    return {"seconds": summary.seconds["train"] / steps, "cpu": (after - before) / (last - first)}


def parts() -> dict[str, float]:
    """Seconds of CPU, in a minute, of what goes on beside the training of ResNet-20."""
    from resjax.config.addresses import Address
    from resjax.runs import upload
    from resjax.runs.claims import SECONDS_BETWEEN_RENEWALS
    from resjax.runs.scratch import workplace
    from resjax.runs.sync import at_work
    from tests.runs.test_sync import evaluate, save, upload_of

    looks, upload.SECONDS_BETWEEN_CHECKS = upload.SECONDS_BETWEEN_CHECKS, 1e9
    upload.SECONDS_BETWEEN_OTHER_UPLOADS = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        run = workplace(Address.of("s3://lab/parts"), Path(scratch))
        with at_work(run) as claim:
            uploading = upload_of()
            for name in ("config.json", "manifest.json", "timing.jsonl", "progress.json"):
                (run / name).write_text(4000 * "x" + "\n")
            uploading.upload_changes()

            def cost(work, times: int) -> float:
                before = _cpu()
                for number in range(times):
                    work(number)
                return (_cpu() - before) / times

            def checkpoint(number: int) -> None:
                save(run, number + 1)
                for file in range(11):
                    path = run / "checkpoints" / str(number + 1) / f"state/{file}"
                    path.write_bytes(bytes(8 << 16))
                uploading.upload_changes()

            return {
                "looks": cost(lambda _: uploading.upload_changes(), 200) * 60 / looks,
                "renewals": cost(lambda _: claim.renew(), 20) * 60 / SECONDS_BETWEEN_RENEWALS,
                "evaluations, 6": 6
                * cost(lambda n: (evaluate(run, n), uploading.upload_changes()), 20),
                "a checkpoint of 6 MB": cost(checkpoint, 10),
            }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between checkpoints")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds of each request")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--parts", action="store_true", help="CPU of the parts, without training")
    parser.add_argument("--workdir", help=argparse.SUPPRESS)  # trains there, in this process
    options = parser.parse_args()
    if options.workdir:
        print(json.dumps(train(options.steps, options.every, options.workdir)))
        return
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(options.latency)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    if options.parts:
        with server:
            os.environ |= json.loads(server.stdout.readline())
            costs = parts()
            server.kill()
        for name, seconds in costs.items():
            print(f"{name}: {1e3 * seconds:.0f} ms of CPU a minute")
        print(f"together {100 * sum(costs.values()) / 60:.2f} % of a core")
        return
    with server, tempfile.TemporaryDirectory() as name:
        environment = os.environ | json.loads(server.stdout.readline())
        environment["XDG_CACHE_HOME"] = os.environ.get(
            "XDG_CACHE_HOME", str(Path.home() / ".cache")
        )
        measured: dict[str, list[dict[str, float]]] = {"directory": [], "bucket": []}
        requests: list[int] = []
        for pair in range(options.pairs):
            places = {
                "directory": f"{name}/run{pair}",
                "bucket": f"s3://lab/{Path(name).name}/{pair}",
            }
            for kind, workdir in places.items():
                words = [f"--{key}={getattr(options, key)}" for key in ("steps", "every")]
                done = subprocess.run(
                    [sys.executable, "-m", "tests.benchmarks.bucket_cost", *words,
                     f"--workdir={workdir}"],
                    env=environment, capture_output=True, text=True, check=True,
                )  # fmt: skip
                measured[kind].append(json.loads(done.stdout.splitlines()[-1]))
            server.stdin.write("\n")
            server.stdin.flush()
            requests.append(len(json.loads(server.stdout.readline())))
        server.kill()
    print(
        f"{options.steps} steps, {options.latency * 1e3:g} ms, a checkpoint in {options.every:g} s"
    )
    print("| | ms of a step | ms of CPU of a step |\n|---|---|---|")
    for kind, all_of_it in measured.items():
        one = [
            1e3 * statistics.median(each[key] for each in all_of_it) for key in ("seconds", "cpu")
        ]
        print(f"| {kind} | {one[0]:.2f} | {one[1]:.2f} |")
    for key in ("seconds", "cpu"):
        ratios = [b[key] / a[key] - 1 for a, b in zip(*measured.values(), strict=True)]
        told = ", ".join(f"{100 * ratio:+.1f} %" for ratio in ratios)
        print(f"{key}: the bucket adds {told}; median {100 * statistics.median(ratios):+.1f} %")
    print(f"requests of a run: {requests}")


if __name__ == "__main__":
    main()
