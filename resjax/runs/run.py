"""A run: its directory, where it is, and what it writes."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from resjax.config import ConfigError, differences, message_of
from resjax.config.naming import run_id
from resjax.models.resnet import ResNet
from resjax.runs import checkpoint, disk, files, rundir
from resjax.runs.checkpoint import Checkpoints, Facts, Saved
from resjax.runs.divergence import Diverged, LossWatch
from resjax.runs.journal import Journal
from resjax.runs.left_out import record_left_out
from resjax.runs.manifest import WITHOUT_EFFECT, describe_execution
from resjax.runs.opening import OpenDirectory
from resjax.runs.position import Position
from resjax.runs.recorder import Recorder
from resjax.runs.summary import Summary
from resjax.runs.weights import About, Weights, write_weights
from resjax.training import hosts
from resjax.training.feeds import Feed, make_feed
from resjax.training.initial import drawn_state, grown_state, initial_state
from resjax.training.metrics import Metrics
from resjax.training.plan import Plan
from resjax.training.state import TrainState


class OpenRun:
    """A run whose directory is open.

    Args:
      plan: plan of the run.
      opened: its directory.

    Attributes:
      at: position of the run.
      ending: its result if it is done, or the error that ended it if it has failed.
      idle: whether it is not trained any more, as it has ended, or not yet.
    """

    def __init__(self, plan: Plan, opened: OpenDirectory):
        self.plan, self.directory, self.refuse_lost = plan, opened.directory, opened.refuse_lost
        self.at = Position.start()
        self.journal = Journal(plan, opened.directory, self.at, opened.observe)
        self.watch = LossWatch(plan.rates)
        self.whole: list[Path] = []  # checkpoints from which it could go on
        self.ending: Summary | Diverged | None = None
        self.idle = False

    @contextmanager
    def opened(self, feed: Feed | None = None) -> Iterator[Feed]:
        """Opens what it reads and writes, until the block ends; notes an error that ends it.

        Args:
          feed: images of the run; None makes a feed of them.
        """
        self.report_progress("compiling")
        with ExitStack() as stack:
            if feed is None:
                feed = make_feed(self.plan)
                stack.callback(feed.close)
            self.feed = feed
            keep = self.plan.config.checkpoint.keep
            self.checkpoints = Checkpoints(self.directory, self.plan.parallel, keep)
            stack.callback(self.checkpoints.close)
            stack.callback(self.journal.close)
            try:
                yield feed
            except Exception as error:
                if not self.idle:
                    with suppress(OSError):  # the disk may be full
                        self.stopped(error)
                raise

    def report_progress(self, phase: str, note: str | None = None) -> None:
        """Reports its progress; raises Claimed if the directory is another process's by now."""
        self.refuse_lost()
        self.journal.report_progress(phase, self.watch.batch.get("loss"), note)

    def note(self, event: str, **more: Any) -> None:
        """Notes an event, unless Claimed; see `resjax.runs.journal.Journal.note`."""
        self.refuse_lost()
        self.journal.note(event, **more)

    def timed(self, what: str, share: float = 1.0) -> AbstractContextManager[None]:
        """Counts a share of the seconds spent in the block as `what`: compile, train or eval."""
        return self.journal.timed(what, share)

    @contextmanager
    def starting(self, share: float = 1.0) -> Iterator[None]:
        """Counts the seconds until the first step, of the first time that the run starts alone."""
        with self.timed("compile", share):
            yield
            before = self.at.seconds["compile"]
        if before:
            self.at.seconds["compile"] = before

    # ------------------------------------------------------------------------- where the run starts

    def start(self, between: Callable[[], None]) -> TrainState:
        """Returns the state that it goes on from: of its newest whole checkpoint, or a new one.

        Args:
          between: called before every probe.
        """

        def newest() -> list[Any]:
            found = self.checkpoints_found(1)
            return [[str(path), dataclasses.asdict(facts)] for path, facts in found]

        found = [(Path(path), Facts(**facts)) for path, facts in hosts.on_first(newest)]
        state = self.go_on_from(*found[0]) if found else self.begin_anew()
        self.begin(between)
        return state

    def checkpoints_found(self, most: int | None = None) -> list[Saved]:
        """The checkpoints that it can go on from, the newest first.

        Args:
          most: most checkpoints to look for; None for all.

        Raises:
          ConfigError: if one is of another run, or the data have changed since.
        """
        whole = checkpoint.whole_checkpoints(
            self.directory, functools.partial(self.report_progress, "compiling")
        )
        found = list(itertools.islice(whole, most))
        for path, facts in found:
            self._refuse_other(path, facts)
        self.whole = [path for path, _ in found]
        return found

    def begin_anew(self) -> TrainState:
        """Makes the initial state."""
        if self.journal.begun_before:
            self.report_progress("compiling", "begins again: it ended before its first checkpoint")
        return initial_state(self.plan, self.feed)

    def begin(self, between: Callable[[], None]) -> None:
        """Makes its files agree with its position; `between` is called before every probe."""
        self.journal.begin()
        self.recorder = Recorder(self.plan, self.directory, self.feed, self.at.evaluated, between)

    def _refuse_other(self, path: Path, facts: Facts) -> None:
        here = self._facts()
        if facts.run != here.run:
            raise ConfigError(
                f"{path} is of another run, {facts.run}; choose another directory, or remove it"
            )
        if facts.data["fingerprint"] != here.data["fingerprint"]:
            raise ConfigError(
                f"the data of {self.plan.config.data.name} have changed since {self.directory} was "
                "begun; bring back those, or choose another directory"
            )

    def go_on_from(self, path: Path, facts: Facts) -> TrainState:
        """Restores the state of a checkpoint, from which the run goes on; removes later ones."""
        self.at.go_on_from(facts)
        self.watch.finite = self.at.step
        state = self.checkpoints.restore(path, facts, drawn_state(self.plan, facts.grown))
        self.feed.set_state(facts.data["feed"])
        for later in itertools.takewhile(lambda other: other != path, self.whole):
            checkpoint.remove(later)
        self.report_progress("compiling", _how_it_goes_on(facts, self._facts()))
        return state

    def _facts(self) -> Facts:
        """Facts of the run as it is now."""
        return Facts(
            run=run_id(self.plan.config),
            data={"fingerprint": self.plan.source.fingerprint, "feed": self.feed.get_state()},
            execution={
                key: value
                for key, value in describe_execution(self.plan).items()
                if key not in WITHOUT_EFFECT
            },
            **dataclasses.asdict(self.at),
        )

    # ------------------------------------------------------------------------ whether it has failed

    def look_at(self, metrics: Metrics) -> None:
        """Reads the mean error and loss over the training batches since the last evaluation.

        Raises:
          Diverged: if the updates by all of them were skipped.
        """
        with self._failing():
            self.watch.look_at(metrics, self.at.step)

    def refuse_divergence(self, metrics: Metrics) -> None:
        """Raises Diverged unless the loss until this step is finite."""
        with self._failing():
            self.watch.refuse_divergence(metrics, self.at.step, self.checkpoints.newest_step)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Records that the run has failed by itself, if it has."""
        try:
            yield
        except Diverged as error:
            self.stopped(error)
            self.ending, self.idle = error, True
            if hosts.is_first():
                disk.write_text(self.directory / files.ERROR, f"{error}\n")
            raise

    def stopped(self, error: Exception) -> None:
        """Notes what ended the run."""
        self.note("stopped", why=message_of(error))

    # ----------------------------------------------------------------------------- what is recorded

    def save(self, state: TrainState) -> None:
        """Starts to write a checkpoint.

        Raises:
          Claimed: if the directory is another process's by now.
        """
        self.refuse_lost()
        self.journal.count("train")  # an evaluation that is cut off is done again
        self.checkpoints.save(state, self._facts())
        self.note("saved")

    def failed_to_save(self) -> bool:
        """Tells whether the checkpoint that is being written has failed."""
        return self.checkpoints.failed()

    def wait(self) -> None:
        """Waits until the last checkpoint is written."""
        self.checkpoints.wait()

    def at_step(self, step: int) -> None:
        """Moves past training steps, after which `step` have been taken."""
        self.at.step = step

    def add_start(self, found: dict[str, np.ndarray]) -> None:
        """Adds the line of the weights that it starts from, with what their evaluation found."""
        self.at.lines.append({"step": 0, "epoch": 0.0, **_numbers(found)})

    def probe(self, model: ResNet, state: TrainState) -> None:
        """Records the probes of the network that was just evaluated."""
        self.refuse_lost()
        self.recorder.record(model, state, self.at.step)

    def grow(self, state: TrainState) -> TrainState:
        """Grows the shallow network to the deep one."""
        return grown_state(self.plan, state, self.feed)

    def add_evaluation(self, found: dict[str, np.ndarray], state: TrainState) -> bool:
        """Moves past an evaluation of a state; returns whether it is the best so far."""
        step = self.at.step
        line = {
            "step": step,
            "epoch": step * self.plan.config.train.batch_size / len(self.plan.source.train),
            "learning_rate": float(self.plan.rates[step - 1]),
            "batch_error": self.watch.batch["error"],
            "batch_loss": self.watch.batch["loss"],
            **_numbers(found),
            **self._skipped_updates(state),
        }
        config = self.plan.config
        return self.at.pass_evaluation(line, config.eval.select, self.plan.grow_at)

    def write_line(self, state: TrainState) -> None:
        """Writes the line of the last evaluation, which was of this state."""
        self.refuse_lost()
        self.journal.add(self.at.lines[-1], state)
        if hosts.is_first() and (news := record_left_out(self.directory, self.feed.left_out)):
            self.report_progress("evaluating", news)

    def end(
        self, state: TrainState, variables: Any, compared: dict[str, dict[str, np.ndarray]]
    ) -> dict[Path, Summary]:
        """Writes all that is left but the result; returns {directory: result}.

        Args:
          state: the last state.
          variables: those of the last evaluation, for the file of weights.
          compared: what evaluations with each kind of statistics found, if they were made.
        """
        self.wait()
        self._write_weights(variables)
        self.journal.end()
        summary = Summary(
            **self.at.last_evaluation(self.feed.evaluated),
            **self.journal.sizes,
            **self.at.best,
            steps=self.at.step,
            seconds=self.at.seconds,
            selection=self.plan.config.eval.select,
            statistics={kind: _numbers(found) for kind, found in compared.items()} or None,
            **self._skipped_updates(state),
        )
        return {self.directory: summary}

    def write_results(self, summaries: dict[Path, Summary]) -> None:
        """Writes its result, with which the run is done."""
        if hosts.is_first():
            rundir.write_result(self.directory, summaries[self.directory].recorded())
            (self.directory / files.PROGRESS).unlink(missing_ok=True)
        self.ending, self.idle = summaries[self.directory], True

    def working(self) -> list[Path]:
        """Returns the directory, if the run is trained and has not ended."""
        return [] if self.idle else [self.directory]

    def endings(self) -> dict[Path, Summary | Diverged]:
        """Returns {directory: result or error} if the run has ended, or {}."""
        return {self.directory: self.ending} if self.ending else {}

    def _write_weights(self, variables: Any) -> None:
        plan, data = self.plan, self.feed.data
        if hosts.is_first():
            names = plan.source.class_names
            about = About(plan.config, names, plan.image_shape, batches=self.at.step)
            weights = Weights(about, variables, data.mean, data.deviation)
            write_weights(self.directory / files.WEIGHTS, weights)

    def _skipped_updates(self, state: TrainState) -> dict[str, int]:
        """Number of skipped updates, where a run may skip any."""
        if self.plan.config.train.on_nan != "skip":
            return {}
        return {"skipped_updates": int(state.skipped_updates)}


def _numbers(found: dict[str, np.ndarray]) -> dict[str, float]:
    """Python's numbers of what an evaluation found, which JSON can hold."""
    return {name: float(value) for name, value in found.items()}


def _how_it_goes_on(facts: Facts, here: Facts) -> str:
    """Line about a run that is resumed."""
    differing = differences(facts.execution, here.execution, "before", "now")
    return f"goes on from step {facts.step}" + (
        f"; the bits may be others, since {differing}" if differing else ""
    )
