"""One of the runs that a program trains: its position, and what it writes."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from resjax.config import ConfigError, differences, message_of
from resjax.config.naming import run_id
from resjax.runs import checkpoint, disk
from resjax.runs.checkpoint import Checkpoints, Facts
from resjax.runs.claims import Claim, Claimed
from resjax.runs.journal import Journal, Position
from resjax.runs.left_out import record_left_out
from resjax.runs.manifest import WITHOUT_EFFECT, describe_execution
from resjax.runs.summary import Progress, Summary
from resjax.runs.weights import FILE as WEIGHTS_FILE
from resjax.runs.weights import About, Weights, write_weights
from resjax.training import hosts
from resjax.training.feeds import Feed
from resjax.training.metrics import Metrics
from resjax.training.plan import Plan
from resjax.training.state import TrainState


class Diverged(RuntimeError):
    """The training loss is no longer a finite number."""


class Member:
    """A run among those that are trained side by side, or one that is alone.

    Args:
      plan: plan of the run, with the lanes of all.
      directory: directory of the run.
      observe: called with its progress.
      claim: claim of the directory; hosts other than the first have none.

    Attributes:
      lane: number of its lane.
      at: position of the run.
      loss: mean loss over the training batches since the last evaluation, when last looked at.
      batch: mean error and loss over those batches.
      failure: error that ended it, if it has failed.
      recorder: recorder of its probes; see `resjax.probes.record`.
    """

    def __init__(
        self,
        plan: Plan,
        directory: Path,
        observe: Callable[[Progress], None],
        claim: Claim | None,
    ):
        self.plan, self.directory, self.claim = plan, directory, claim
        self.lane = plan.lanes.seeds.index(plan.config.seed)
        self.at = Position()
        self.journal = Journal(plan, directory, self.at, observe)
        self.batch: dict[str, float] = {}
        self.loss: float | None = None
        self.recorder: Any = None
        self.whole: list[Path] = []  # checkpoints from which it could go on
        self.failure: Diverged | None = None
        self.finite = 0  # steps after which the loss was last seen to be a number

    def open(self, feed: Feed, until_it_ends: ExitStack) -> None:
        """Opens the writer of its checkpoints; `until_it_ends` closes that and the journal."""
        self.feed = feed
        keep = self.plan.config.checkpoint.keep
        self.checkpoints = Checkpoints(self.directory, self.plan.parallel, keep)
        until_it_ends.callback(self.checkpoints.close)
        until_it_ends.callback(self.journal.close)

    def tell(self, phase: str, note: str | None = None) -> None:
        """Reports its progress."""
        self.journal.tell(phase, self.loss, note)

    # ------------------------------------------------------------------------- where the run starts

    def checkpoints_found(self) -> list[dict[str, Any]]:
        """Paths and facts of the checkpoints that it can go on from, the newest first.

        A run that is alone needs only the newest.

        Raises:
          ConfigError: if one is of another run, or the data have changed since.
        """
        whole = checkpoint.whole_checkpoints(
            self.directory, functools.partial(self.tell, "compiling")
        )
        most = None if self.plan.lanes.several else 1
        found = []
        for path, facts in itertools.islice(whole, most):
            self._refuse_other(path, facts)
            self.whole.append(path)
            found.append({"path": str(path), "facts": dataclasses.asdict(facts)})
        return found

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

    def go_on_from(self, path: Path, facts: Facts, like: TrainState) -> TrainState:
        """Restores the state of a checkpoint, from which the run goes on; removes later ones."""
        self.at.go_on_from(facts)
        self.finite = self.at.step
        state = self.checkpoints.restore(path, facts, like)
        self.feed.set_state(facts.data["feed"])
        for later in itertools.takewhile(lambda other: other != path, self.whole):
            checkpoint.remove(later)
        self.tell("compiling", _how_it_goes_on(facts, self._facts()))
        return state

    def _facts(self) -> Facts:
        """Facts of the run as it is now."""
        return Facts(
            run=run_id(self.plan.config),
            data={
                "fingerprint": self.plan.source.fingerprint,
                "feed": self.feed.get_state(),
            },
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
        if not int(metrics.examples):
            raise Diverged(
                f"no update between {self._unknown_steps()} had a finite loss and gradient; "
                "lower optim.learning_rate"
            )
        self.batch = metrics.means()
        self.loss = self.batch["loss"]

    def refuse_divergence(self, metrics: Metrics) -> None:
        """Raises Diverged unless the loss until this step is finite."""
        loss = float(metrics.loss)
        if not math.isfinite(loss):
            rates = self.plan.rates[self.finite : self.at.step]
            saved = self.checkpoints.newest_step()
            raise Diverged(
                f"the training loss became {loss} between {self._unknown_steps()}, at a learning "
                f"rate of up to {rates.max():g}; "
                + (f"the last checkpoint is of step {saved}; " if saved else "")
                + "lower optim.learning_rate, or leave such updates out by train.on_nan=skip"
            )
        self.finite = self.at.step

    def _unknown_steps(self) -> str:
        return f"steps {self.finite + 1} and {self.at.step}"

    def fail(self, failure: Diverged) -> None:
        """Records that the run has failed by itself."""
        self.failure = failure
        self.stopped(failure)
        if hosts.is_first():
            disk.write_text(self.directory / "error.txt", f"{failure}\n")

    def stopped(self, error: Exception) -> None:
        """Notes what ended the run."""
        self.journal.note("stopped", why=message_of(error))

    # ----------------------------------------------------------------------------- what is recorded

    def save(self, state: TrainState) -> None:
        """Starts to write a checkpoint.

        Raises:
          Claimed: if the directory is another process's by now.
        """
        if self.claim and self.claim.lost:
            raise Claimed(
                f"{self.directory} was taken over by another process while this one stood still; "
                "leave it to that one"
            )
        self.journal.count("train")  # an evaluation that is cut off is done again
        self.checkpoints.save(state, self._facts())
        self.journal.note("saved")

    def evaluated(self, step: int, clean: dict[str, float], state: TrainState) -> bool:
        """Moves past an evaluation of a state; returns whether it is the best so far."""
        line = {
            "step": step,
            "epoch": step * self.plan.config.train.batch_size / len(self.plan.source.train),
            "learning_rate": float(self.plan.rates[step - 1]),
            "batch_error": self.batch["error"],
            "batch_loss": self.batch["loss"],
            **clean,
            **self._skipped_updates(state),
        }
        before = self.at.best
        if self.plan.config.eval.select == "best":
            self.at.best = _better(before, clean, step)
        self.at.lines.append(line)
        self.at.evaluated = step
        self.at.grown = self.at.grown or step == self.plan.grow_at
        return self.at.best != before

    def add(self, line: dict[str, Any], state: TrainState) -> None:
        """Writes the line of an evaluation, which was of this state."""
        self.journal.add(line, state)
        if hosts.is_first() and (news := record_left_out(self.directory, self.feed.left_out)):
            self.tell("evaluating", news)

    def write_weights(self, variables: Any) -> None:
        """Writes the network of the last evaluation to the file of weights."""
        plan, data = self.plan, self.feed.data
        if hosts.is_first():
            names = plan.source.class_names
            about = About(plan.config, names, tuple(plan.image_shape), batches=self.at.step)
            weights = Weights(about, variables, data.mean, data.deviation)
            write_weights(self.directory / WEIGHTS_FILE, weights)

    def end(self, compared: dict[str, dict[str, float]] | None, state: TrainState) -> Summary:
        """Ends the journal; returns the result, which alone is not written yet."""
        self.journal.end()
        return Summary(
            **self._last_evaluation(),
            **self.journal.sizes,
            **self.at.best,
            steps=self.at.step,
            seconds=self.at.seconds,
            selection=self.plan.config.eval.select,
            statistics=compared,
            **self._skipped_updates(state),
        )

    def _skipped_updates(self, state: TrainState) -> dict[str, int]:
        """Number of skipped updates, where a run may skip any."""
        if self.plan.config.train.on_nan != "skip":
            return {}
        return {"skipped_updates": int(state.skipped_updates)}

    def _last_evaluation(self) -> dict[str, float]:
        """Errors and losses of the last line, where null stands for a number that is not finite."""
        names = [f"{split}_{what}" for split in self.feed.evaluated for what in ("error", "loss")]
        values = {name: self.at.lines[-1][name] for name in names}
        return {name: math.nan if value is None else value for name, value in values.items()}


def _how_it_goes_on(facts: Facts, here: Facts) -> str:
    """Line about a run that is resumed."""
    differing = differences(facts.execution, here.execution, "before", "now")
    return f"goes on from step {facts.step}" + (
        f"; the bits may be others, since {differing}" if differing else ""
    )


def _better(best: dict[str, float], clean: dict[str, float], step: int) -> dict[str, float]:
    """The evaluation with the lower validation error, as fields of a summary; first is best."""
    if best and best["best_validation_error"] <= clean["validation_error"]:
        return best
    names = (name for name in clean if name.endswith("_error") and not name.startswith("grown_"))
    return {"best_step": step, **{f"best_{name}": clean[name] for name in names}}
