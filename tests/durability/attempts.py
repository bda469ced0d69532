"""Attempts of a run in processes that can be killed, each forked from one that has imported all.

As a program it reads jobs from stdin, a line of JSON each, and tells on stdout what becomes of
them. Nothing of JAX but the import happens before the fork.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Zygote:
    """Starts attempts; a context manager."""

    def __init__(self, environment: dict[str, str] | None = None):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.durability.attempts"], cwd=ROOT,
            env=os.environ | (environment or {}), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> "Zygote":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def attempt(
        self,
        config: dict,
        workdir: Path,
        act: Callable[[int, dict], None] = lambda pid, told: None,
        **options,
    ) -> tuple[int, list[dict]]:
        """One attempt at a run, to its end.

        Args:
          config: {dotted key: value} that differ from those of `TINY`.
          workdir: of the run.
          act: is called with the pid and what is told: {"phase", "step", "note"}, or {"error"}.
          options: `x64`; `tell_every`, of the loop, and `write_every`, of its progress; `seeds`, of
            runs in directories of these names in the workdir, which are trained as a sweep.

        Returns:
          The exit status, as `os.waitstatus_to_exitcode` gives it, and all that was told.
        """
        job = {"config": config, "workdir": str(workdir), **options}
        self.process.stdin.write((json.dumps(job) + "\n").encode())
        self.process.stdin.flush()
        pid, all_told = None, []
        for line in self.process.stdout:
            told = json.loads(line)
            pid = told.get("pid", pid)
            if "status" in told:
                return told["status"], all_told
            all_told.append(told)
            act(pid, told)
        raise RuntimeError("the process that starts attempts has ended")


def sender(number: int, phase: str, step: int, seconds: float) -> Callable[[int, dict], None]:
    """Sends an attempt a signal, some seconds after it was in a phase at a step or later."""
    sent = []

    def send(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def act(pid: int, told: dict) -> None:
        if not sent and told.get("phase") == phase and told["step"] >= step:
            sent.append(threading.Timer(seconds, send, (pid,)))
            sent[0].start()

    return act


def run(job: dict) -> int:
    """What an attempt does: a run, in this process, from its config to its exit code."""
    import jax

    import resjax.training.journal
    import resjax.training.loop
    from resjax.config import default_config
    from resjax.exits import EXIT_UNFINISHED
    from resjax.interruption import interruptible
    from resjax.training.loop import Diverged, train_and_evaluate

    resjax.training.loop.TELL_EVERY = job.get("tell_every", -1.0)
    if "write_every" in job:
        resjax.training.journal.SECONDS_BETWEEN_PROGRESS = job["write_every"]
    if job.get("x64"):
        jax.config.update("jax_enable_x64", True)
    config = default_config()
    config.update_from_flattened_dict(TINY | job["config"])

    def observe(progress):
        tell({"phase": progress.phase, "step": progress.step, "note": progress.note})

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


TINY = {
    "model.depth": 8,
    "model.width": 2,
    "optim.learning_rate": 0.05,
    "train.batch_size": 64,
}


def tell(fact: dict) -> None:
    os.write(1, (json.dumps(fact) + "\n").encode())


def main() -> None:
    import orbax.checkpoint  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import tensorboardX  # noqa: F401

    import resjax.training.loop  # noqa: F401

    buffer = b""
    while True:
        select.select([0], [], [])
        read = os.read(0, 1 << 16)
        if not read:
            return
        buffer += read
        while b"\n" in buffer:
            line, buffer = buffer.split(b"\n", 1)
            pid = os.fork()
            if pid == 0:
                os._exit(run(json.loads(line)))
            tell({"pid": pid})
            _, status = os.waitpid(pid, 0)
            tell({"status": os.waitstatus_to_exitcode(status)})


if __name__ == "__main__":
    main()
