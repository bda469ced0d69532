"""Results of published work, each with its recipe: `published.json`."""

import dataclasses
import json
from importlib import resources
from typing import Any

from resjax.config import default_config, flatten
from resjax.config.naming import deciding_keys


@dataclasses.dataclass(frozen=True)
class Published:
    """An error that a paper reports.

    Attributes:
      source: sentence that says who reports it.
      where: place in the source, such as a table.
      config: {dotted key: value} of the net and its recipe, every key of a config.
      keys: keys of `config` that decide the result and differ from their defaults.
      measure: "test_error" or "train_error".
      error: the error as a fraction.
      statistic: statistic of the runs that the error is, "mean" or "median".
      runs: number of runs.
      deviation: sample standard deviation over the runs, if it is reported.
      selection: evaluation of a run that counts: "final", or another in words.
      beyond: known parts of the recipe that no key of a config says; empty if there are none.
    """

    source: str
    where: str
    config: dict[str, Any]
    keys: dict[str, Any]
    measure: str
    error: float
    statistic: str
    runs: int
    deviation: float | None
    selection: str
    beyond: str


def published() -> tuple[Published, ...]:
    """All published figures, in the order of the file."""
    text = resources.files("resjax.report.reference").joinpath("published.json").read_text("utf-8")
    content = json.loads(text)
    defaults = flatten(default_config())
    figures = []
    for figure in content["figures"]:
        config = defaults | content["recipes"][figure["recipe"]] | figure["config"]
        figures.append(
            Published(
                source=content["sources"][figure["source"]],
                where=figure["where"],
                config=config,
                keys=deciding_keys(config),
                measure=figure["measure"],
                error=figure["percent"] / 100,
                statistic=figure["statistic"],
                runs=figure["runs"],
                deviation=figure["deviation"] / 100 if "deviation" in figure else None,
                selection=figure["selection"],
                beyond=figure.get("beyond", ""),
            )
        )
    return tuple(figures)
