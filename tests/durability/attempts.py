"""Attempts of a run in processes that can be killed.

As a program it makes one, of a line of JSON, and tells on stdout what becomes of it.
"""

import json
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.zygote import Zygote


@dataclass(frozen=True)
class Attempts:
    """Makes attempts, in processes with these variables in their environment."""

    zygote: Zygote
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(
        self,
        config: dict,
        workdir: Path,
        act: Callable[[dict], None] = lambda told: None,
        **options,
    ) -> tuple[int, list[dict]]:
        """One attempt at a run, to its end.

        Args:
          config: {dotted key: value} that differ from those of `TINY`.
          workdir: of the run.
          act: is called with what is told: {"phase", "step", "note"}, or {"error"}.
          options: `x64`; `tell_every`, of the loop, and `write_every`, of its progress; `seeds`, of
            runs in directories of these names in the workdir, which are trained as a sweep; `send`,
            (signal, phase, step, seconds), what the attempt sends itself some seconds after it was
            in a phase at a step or later; `die`, an instant of `INSTANTS` and at which of them the
            attempt kills itself; `set`, {name in a module: value}.

        Returns:
          The exit status, negative after a signal, and all that was told.
        """
        job = {"config": config, "workdir": str(workdir), **options}
        reading, writing = os.pipe()
        try:
            process = self.zygote.start(
                "-m", "tests.durability.attempts", json.dumps(job),
                environment=self.environment, output=writing,
            )  # fmt: skip
        finally:
            os.close(writing)
        all_told = []
        with open(reading) as lines:
            for line in lines:
                told = json.loads(line)
                all_told.append(told)
                act(told)
        _, errors = process.communicate()
        sys.stderr.write(errors)
        return process.returncode, all_told


def run(job: dict) -> int:
    """What an attempt does: a run, in this process, from its config to its exit code."""
    import jax

    import resjax.runs.journal
    import resjax.runs.loop
    from resjax.config import default_config
    from resjax.exits import EXIT_UNFINISHED
    from resjax.interruption import interruptible
    from resjax.runs.divergence import Diverged
    from resjax.runs.loop import train_and_evaluate

    resjax.runs.loop.SECONDS_BETWEEN_REPORTS = job.get("tell_every", -1.0)
    if "write_every" in job:
        resjax.runs.journal.SECONDS_BETWEEN_PROGRESS = job["write_every"]
    for path, value in job.get("set", {}).items():
        module, _, name = path.rpartition(".")
        owner = pkgutil.resolve_name(module)
        getattr(owner, name)  # a name that is gone would be set without effect
        setattr(owner, name, value)
    if "die" in job:
        arm(*job["die"])
    if job.get("x64"):
        jax.config.update("jax_enable_x64", True)
    config = default_config()
    config.update_from_flattened_dict(TINY | job["config"])

    number, phase, step, seconds = job.get("send", (0, "", 0, 0.0))

    def observe(progress):
        nonlocal number
        tell({"phase": progress.phase, "step": progress.step, "note": progress.note})
        if number and progress.phase == phase and progress.step >= step:
            sent, number = number, 0
            if seconds:
                threading.Timer(seconds, os.kill, (os.getpid(), sent)).start()
            else:
                os.kill(os.getpid(), sent)

    try:
        with interruptible(EXIT_UNFINISHED, "last words"):
            if "seeds" in job:
                return sweep(config, Path(job["workdir"]), job["seeds"], observe)
            train_and_evaluate(config, job["workdir"], observe)
    except KeyboardInterrupt:
        return EXIT_UNFINISHED
    except (OSError, Diverged, ValueError) as error:
        tell({"error": f"{type(error).__name__}: {error}"})
        return 1
    return 0


def sweep(config, workdir: Path, seeds: list[int], observe: Callable) -> int:
    """Runs of several seeds by the local launcher."""
    from resjax.sweeps.local import run_sweep

    runs = {}
    for seed in seeds:
        runs[workdir / str(seed)] = config.copy_and_resolve_references()
        runs[workdir / str(seed)].seed = seed

    class Observer:
        def started(self, directory): ...

        def progressed(self, directory, progress):
            observe(progress)

        def finished(self, outcome): ...

        def waiting(self, directories): ...

    return int(any(outcome.error for outcome in run_sweep(runs, Observer())))


METRICS = "metrics.jsonl"

INSTANTS = {
    "a state is being written": (
        "resjax.runs.checkpoint.Checkpoints.save", lambda *_: True, "after",
    ),
    "a state is written and not sealed": (
        "resjax.runs.disk.write_json", lambda path, _: path.name == "checkpoint.json", "before",
    ),
    "a seal is written and not in its place": (
        "pathlib.Path.replace", lambda _, target: target.name == "checkpoint.json", "before",
    ),
    "a seal is in its place": (
        "pathlib.Path.replace", lambda _, target: target.name == "checkpoint.json", "after",
    ),
    "a checkpoint is half removed": (
        "shutil.rmtree", lambda path, *_: Path(path).parent.name == "checkpoints", "before",
    ),
    "a line is half written": (
        "resjax.runs.disk.append_line", lambda path, _: path.name == METRICS, "within",
    ),
    "a result is written and not in its place": (
        "pathlib.Path.replace", lambda _, target: target.name == "result.json", "before",
    ),
    "a checkpoint is half uploaded": (
        "resjax.buckets.store.Store.put", lambda _, name, *__: "/state/" in name, "before",
    ),
    "a seal is about to be uploaded": (
        "resjax.buckets.store.Store.put", lambda _, name, *__: "checkpoint.json" in name, "before",
    ),
    "a seal is uploaded": (
        "resjax.buckets.store.Store.put", lambda _, name, *__: "checkpoint.json" in name, "after",
    ),
    "a result is about to be uploaded": (
        "resjax.buckets.store.Store.put", lambda _, name, *__: name == "result.json",
        "before",
    ),
}  # fmt: skip
"""A function, with what arguments it is meant, and when an attempt kills itself: by its name."""


def arm(instant: str, count: int) -> None:
    """Has this process kill itself at an instant, when it comes for the so manieth time."""
    path, is_meant, when = INSTANTS[instant]
    owner, _, name = path.rpartition(".")
    owner = pkgutil.resolve_name(owner)
    function, left = getattr(owner, name), count

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def watched(*given, **options):
        nonlocal left
        left -= is_meant(*given)
        now = is_meant(*given) and left == 0
        if now and when == "before":
            die()
        if now and when == "within":
            with given[0].open("ab") as file:
                file.write(json.dumps(given[1]).encode()[:20])
            die()
        returned = function(*given, **options)
        if now:
            die()
        return returned

    setattr(owner, name, watched)


TINY = {
    "model.depth": 8,
    "model.width": 2,
    "optim.learning_rate": 0.05,
    "train.batch_size": 64,
}


def tell(fact: dict) -> None:
    os.write(1, (json.dumps(fact) + "\n").encode())


if __name__ == "__main__":
    os._exit(run(json.loads(sys.argv[1])))
