"""Checkpoints of a run: written while it trains, verified before use.

checkpoints/STEP/state/           the training state, by Orbax
checkpoints/STEP/checkpoint.json  what else the run needs to go on, and the SHA-256 of every file

`checkpoint.json` is written last, so a directory without one is partial. A second checkpoint of the
same step, such as that before and that after its evaluation, is `STEP.2`.
"""

import dataclasses
import itertools
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from resjax.buckets.places import Choice
from resjax.config import ConfigError
from resjax.config.text import space
from resjax.runs import disk, files, room
from resjax.runs.position import Position
from resjax.training import hosts
from resjax.training.parallel import Parallel

BYTES_BESIDE = 1 << 20
"""Bytes that a checkpoint takes besides its arrays; most of a small one."""


@dataclasses.dataclass(kw_only=True)
class Facts(Position):
    """The facts besides its training state that a run needs to resume, as JSON.

    Attributes:
      run: name of the run, as `run_id` gives it.
      data: {"fingerprint" of the source, "feed": the state of the feed}.
      execution: {key: value} that the bits depend on beside the config; see
        `manifest.describe_execution`.
    """

    run: str
    data: dict[str, Any]
    execution: dict[str, Any]


Saved = tuple[Path, Facts]
"""The directory of a checkpoint, and its facts."""


class Damaged(ConfigError):
    """A checkpoint that differs from what was written: a file is missing or has another digest."""


def found(run: Path) -> list[Path]:
    """The directories of a run's checkpoints, including partial ones, newest first."""
    order = {path: _order(path.name) for path in (run / files.CHECKPOINTS).glob("*/")}
    return sorted(filter(order.get, order), key=order.__getitem__, reverse=True)


def completed(run: Path) -> list[Path]:
    """The checkpoints that were written to the end, newest first; they may be damaged since."""
    return [path for path in found(run) if not is_partial(path)]


def step_of(path: Path) -> int:
    """The step of a checkpoint, from its name."""
    return _order(path.name)[0]


def _order(name: str) -> tuple[int, ...]:
    """The step of a checkpoint, and its number among those of that step; empty for other names."""
    match = re.fullmatch(r"(\d{1,18})(?:\.(\d{1,9}))?", name)
    return (int(match[1]), int(match[2] or 1)) if match else ()


def choose_files(step: int | None) -> Choice:
    """Chooses the files of a run needed to restore a checkpoint: that of a step, or the newest.

    Of the other whole ones `checkpoint.json` alone is chosen, to list them in errors, and of a run
    without any, the weights.
    """

    def choose(listed: list[str]) -> list[str]:
        seals = [name for name in listed if name.endswith(f"/{files.FACTS}")]
        order = {seal.removesuffix(files.FACTS): _order(seal.split("/")[-2]) for seal in seals}
        whole = sorted(filter(order.get, order), key=order.__getitem__)
        state = [above for above in whole if step in (None, order[above][0])][-1:]
        beside = [files.CONFIG, files.ORIGIN] + [files.WEIGHTS] * (not whole)
        return [
            name
            for name in listed
            if name in beside or name in seals or name.startswith(tuple(state))
        ]

    return choose


def is_partial(path: Path) -> bool:
    """Tells whether a checkpoint is incomplete: in progress, or cut short."""
    return not (path / files.FACTS).exists()


def verified(path: Path) -> Facts:
    """Reads the facts of a checkpoint, and verifies that all its files are as written.

    Raises:
      Damaged: naming the file that is not.
    """
    try:
        content = disk.read_json(path / files.FACTS)
        written = content.pop("files")
        facts = Facts(**content)
    except ConfigError as error:
        raise Damaged(str(error).partition("; ")[0]) from None
    except (KeyError, TypeError) as error:
        raise Damaged(f"{files.FACTS} has other fields: {error}") from None
    for name, digest in written.items():
        file = path / name
        if not file.resolve().is_relative_to(path.resolve()):
            raise Damaged(f"{name} is outside of {path}")
        try:
            actual = disk.sha256(file)
        except OSError as error:
            raise Damaged(f"{name}: {error.strerror}") from None
        if actual != digest:
            raise Damaged(f"{name} has another SHA-256 than when it was written")
    return facts


def newest(run: Path) -> tuple[Path | None, Facts | None, list[str]]:
    """The newest checkpoint that verifies, its facts, and a line for each newer one that does not.

    It ignores partial ones.
    """
    complaints: list[str] = []
    path, facts = next(whole_checkpoints(run, complaints.append), (None, None))
    return path, facts, complaints


def whole_checkpoints(run: Path, complain: Callable[[str], None]) -> Iterator[Saved]:
    """Yields the checkpoints that verify, newest first, with their facts; reports others."""
    for path in completed(run):
        try:
            yield path, verified(path)
        except Damaged as error:
            complain(f"checkpoint {path.name} is damaged ({error}) and not used")


def remove_partial(run: Path) -> None:
    """Removes partial checkpoints; the caller must hold the run's lock, so nobody writes them."""
    for path in filter(is_partial, found(run)):
        shutil.rmtree(path)


def remove(path: Path) -> None:
    """Removes a checkpoint; an interruption leaves a partial one."""
    (path / files.FACTS).unlink(missing_ok=True)
    shutil.rmtree(path)


class Checkpoints:
    """Writes the checkpoints of a run, one at a time, while training continues.

    Every host calls the same methods at the same step.

    Args:
      run: directory of the run.
      parallel: the devices of the state.
      keep: number of newest checkpoints that are kept, beside that of the best evaluation.
    """

    def __init__(self, run: Path, parallel: Parallel, keep: int):
        # Orbax takes half a second to import. What it logs as errors it raises as well.
        import orbax.checkpoint

        for name in ("absl", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.run, self.parallel, self.keep = run.absolute(), parallel, keep
        self.orbax = orbax.checkpoint
        # The first host has all of the state, and the others may not see its disk.
        who = orbax.checkpoint.options.MultiprocessingOptions(
            active_processes={0} if parallel.hosts > 1 else None
        )
        self.writer: Any = hosts.is_first() and orbax.checkpoint.AsyncCheckpointer(
            orbax.checkpoint.PyTreeCheckpointHandler(
                use_compression=False, multiprocessing_options=who
            ),
            multiprocessing_options=who,
        )
        self.finisher = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self.pending: Future | None = None
        self.saved: Facts | None = None

    def save(self, state: Any, facts: Facts) -> None:
        """Copies the state and starts to write it, after the previous checkpoint is written.

        The position that was saved last is not saved again.

        Raises:
          OSError: if the checkpoint before, or this one, could not be written.
        """
        self.wait()
        if self.saved and self.saved.place == facts.place:
            return
        hosts.on_first(lambda: self._refuse_full_disk(state))
        path = hosts.on_first(lambda: str(self._place(facts.step)))
        with _or_nothing(Path(path)):
            state = jax.tree.map(lambda leaf: np.array(leaf, copy=True), jax.device_get(state))
            if self.writer:  # the next step takes the memory of the original
                self.writer.save(Path(path, files.STATE), args=self.orbax.args.PyTreeSave(state))
        self.pending = self.finisher.submit(self._finish, Path(path), facts)
        self.saved = facts

    def wait(self) -> None:
        """Waits until everything is written.

        Raises:
          OSError: if that was not possible.
        """
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.result()

    def failed(self) -> bool:
        """Tells whether the checkpoint being written has failed; `wait` then raises the reason."""
        return bool(self.pending and self.pending.done() and self.pending.exception())

    def newest_step(self) -> int | None:
        """Step of the newest checkpoint; None if there is none."""
        self.wait()
        return next(map(step_of, completed(self.run)), None)

    def restore(self, path: Path, facts: Facts, like: Any) -> Any:
        """Restores a verified state to the devices, with the structure and dtypes of `like`.

        Raises:
          Damaged: if the state has another structure.
        """
        states = [jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)]
        hosts.on_first(lambda: states.append(self._read(path, like)))
        self.saved = facts
        return self.parallel.whole(hosts.from_first(states[-1]))

    def _read(self, path: Path, like: Any) -> Any:
        """Reads a state as NumPy arrays."""
        arguments = jax.tree.map(
            lambda leaf: self.orbax.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype), like
        )
        try:
            state = self.writer.restore(
                path.absolute() / files.STATE,
                args=self.orbax.args.PyTreeRestore(item=like, restore_args=arguments),
            )
            for there, here in zip(*map(jax.tree.leaves, (state, like)), strict=True):
                if there.shape != here.shape:
                    raise ValueError(f"the shape of an array is {there.shape}, not {here.shape}")
            return state
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(
                f"{path} holds another state ({str(error).splitlines()[0]}); go on with the resjax "
                "that wrote it, or remove its directory"
            ) from None

    def close(self) -> None:
        """Ends the threads; a started checkpoint is then complete, or removed."""
        self.finisher.shutdown()
        if self.writer:
            self.writer.close()

    def _refuse_full_disk(self, state: Any) -> None:
        """Raises OSError in one line if there is no room, before Orbax notices."""
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        needed, free = 1.1 * size + BYTES_BESIDE, shutil.disk_usage(self.run).free
        if free < needed:
            raise room.no_room(
                self.run / files.CHECKPOINTS,
                f"a checkpoint takes {space(needed)} of {space(free)}",
            )

    def _place(self, step: int) -> Path:
        """Makes a new directory for a checkpoint of a step."""
        names = itertools.chain([str(step)], (f"{step}.{n}" for n in itertools.count(2)))
        paths = (self.run / files.CHECKPOINTS / name for name in names)
        path = next(path for path in paths if not path.exists())
        path.mkdir(parents=True)
        return path

    def _finish(self, path: Path, facts: Facts) -> None:
        """Waits until the state is written, seals it, and removes older checkpoints."""
        if not self.writer:
            return
        with _or_nothing(path):
            self.writer.wait_until_finished()
            written = sorted(file for file in path.rglob("*") if file.is_file())
            digests = {file.relative_to(path).as_posix(): disk.sha256(file) for file in written}
            disk.write_json(path / files.FACTS, {**dataclasses.asdict(facts), "files": digests})
        self._prune(facts)

    def _prune(self, newest: Facts) -> None:
        """Removes all but the newest checkpoints, and that of the best evaluation so far."""
        for path in completed(self.run)[self.keep :]:
            if step_of(path) != newest.best.get("best_step"):
                remove(path)


@contextmanager
def _or_nothing(path: Path) -> Iterator[None]:
    """Removes a checkpoint that cannot be written; a full disk raises an OSError that says so."""
    with room.refused(path, "a checkpoint did not fit"):
        try:
            yield
        except Exception:
            shutil.rmtree(path, ignore_errors=True)
            raise
