"""resjax: a laboratory for deep residual learning in JAX.

Importing the package changes nothing in the process and loads nothing else. The names in `PUBLIC`
are imported when they are first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

PUBLIC = {
    "build_model": "resjax.models.build.build_model",
    "create_state": "resjax.training.state.create_state",
    "cross_entropy": "resjax.training.losses.cross_entropy",
    "default_config": "resjax.config.default_config",
    "eval_step": "resjax.training.step.eval_step",
    "features": "resjax.models.features.features",
    "import_weights": "resjax.interop.importing.import_weights",
    "load_weights": "resjax.runs.weights.read_weights",
    "named_model": "resjax.models.build.named_model",
    "read_sweep": "resjax.report.report.read_sweep",
    "set_up": "resjax.process.set_up",
    "sweep": "resjax.notebook.sweep",
    "train": "resjax.runs.loop.train_and_evaluate",
    "train_step": "resjax.training.step.train_step",
}
"""Names for users' own programs, and the modules that define them."""


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'resjax' has no attribute {name!r}")
    module, _, last = PUBLIC[name].rpartition(".")
    return getattr(import_module(module), last)


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC})
