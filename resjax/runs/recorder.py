"""Recording of probes at the evaluations of a run: `probes.jsonl`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from resjax.config import ConfigError
from resjax.models.resnet import ResNet
from resjax.probes.measure import as_lists, compute_probes, probed_batches
from resjax.probes.table import chosen
from resjax.runs import disk, files
from resjax.training import hosts
from resjax.training.feeds import Feed
from resjax.training.plan import Plan
from resjax.training.state import TrainState


class Recorder:
    """Adds a line to `probes.jsonl` at every evaluation of a run whose config names probes.

    A line is written before the run counts its evaluation as done. When a run is resumed, lines of
    later evaluations are removed, as the run repeats these. So each evaluation has one line,
    however often the run is interrupted.

    Args:
      plan: the plan of the run.
      directory: the directory of the run.
      feed: the feed of its images.
      evaluated: number of steps at the last evaluation that the run counts as done.
      between: called before every probe.
    """

    def __init__(
        self,
        plan: Plan,
        directory: Path,
        feed: Feed,
        evaluated: int,
        between: Callable[[], None],
    ):
        self.names = chosen(plan.config.eval.probes, "eval.probes")
        self.path, self.between, self.loss = directory / files.PROBES, between, plan.loss
        if self.names:
            self.batches = probed_batches(self.names, feed, plan.config.eval.probe_examples)
        if hosts.is_first() and self.path.exists():
            kept = (line for line in self._lines() if line["step"] <= evaluated)
            disk.write_lines(self.path, kept)

    def record(self, model: ResNet, state: TrainState, step: int) -> None:
        """Probes the network that was just evaluated; every host does, and the first one writes."""
        if not self.names:
            return
        variables = jax.device_get(state.evaluated())
        found = compute_probes(
            self.names, model, variables, self.batches, lambda _: self.between(), self.loss
        )
        if hosts.is_first():
            disk.append_line(self.path, {"step": step, **as_lists(found)})

    def _lines(self) -> list[dict[str, Any]]:
        try:
            return disk.read_lines(self.path)
        except ConfigError as error:
            reason = str(error).partition("; ")[0]
            raise ConfigError(f"{reason}; remove it, and the run goes on without it") from None
