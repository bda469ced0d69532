"""An experiment file brings norms, losses, optimisers, schedules and orders of its own."""

import functools
from pathlib import Path

import flax.linen as nn
import pytest

from resjax.cli.commands.experiment import definitions
from resjax.cli.main import main
from resjax.config import ConfigError
from resjax.models.build import build_model
from resjax.models.norm import NORMS, GroupNorm
from resjax.runs.rundir import read_config, read_metrics
from resjax.sweeps.experiment import load_experiment
from resjax.sweeps.grid import axes_of, expand
from resjax.sweeps.local import check
from resjax.training.plan import make_plan

DEFINABLE = [
    "model.shortcut", "model.shortcut_base", "model.order", "model.activation", "model.kernel_init",
    "norm.kind", "data.name", "optim.name", "optim.schedule", "train.loss", "eval.probes",
]  # fmt: skip
"""Keys whose names an experiment file may add to."""

FILE = """
import functools

import jax
import jax.numpy as jnp
import optax

from resjax.config import default_config
from resjax.models.blocks import ACTIVATION, NORM, ORDERS, Order
from resjax.models.norm import NORMS, GroupNorm
from resjax.training.losses import LOSSES, cross_entropy
from resjax.training.optim import OPTIMIZERS, SCHEDULES


def focal(logits, labels):
    right = jnp.take_along_axis(jax.nn.softmax(logits), labels[:, None], -1)[:, 0]
    return (1 - right) ** 2 * cross_entropy(logits, labels)


NORMS["pairs"] = lambda norm, dtype, axis_name: functools.partial(GroupNorm, groups=2, dtype=dtype)
LOSSES["focal"] = focal
OPTIMIZERS["lion"] = lambda optim: optax.lion(optim.learning_rate, weight_decay=1e-4)
SCHEDULES["root"] = lambda optim, *_: lambda step: optim.learning_rate / jnp.sqrt(1 + step)
ORDERS["both"] = Order(before=(NORM,), after=(NORM,), joined=(ACTIVATION,))


def get_config():
    config = default_config()
    config.model.update({"depth": 8, "width": 4, "order": "both"})
    config.norm.kind = "pairs"
    config.train.update({"loss": "focal", "duration": "4 steps", "batch_size": 32})
    config.optim.update({"name": "lion", "schedule": "root", "learning_rate": 0.01})
    config.optim.clip_norm, config.log.writers = 1.0, ()
    return config


def sweep_norm():
    yield {"norm.kind": "pairs"}
    yield {"norm.kind": "batch"}
"""


@pytest.mark.slow
def test_a_run_is_trained_with_all_of_them_and_goes_on(mine):
    words = ["train", "--config=mine.py", "--workdir=run"]
    assert main(words) == 0
    assert read_config(mine / "run")["train.loss"] == "focal"
    [line] = read_metrics(mine / "run")
    assert line["learning_rate"] == pytest.approx(0.01 / 2)
    assert main(words) == 0  # it is done, and read
    assert main(["evaluate", "run", "--config=mine.py"]) == 0


def test_a_grid_over_them_passes_the_checks(mine):
    module, config = load_experiment("mine.py")
    runs = expand(config, [axes_of(module, config)["norm"]])
    assert [run.norm.kind for run in runs.values()] == ["pairs", "batch"]
    check({mine / "runs" / name: run for name, run in runs.items()})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("NORMS['batch'] = lambda *_: None", r"mine.py replaces norm.kind 'batch' of resjax"),
        ("LOSSES['mse'] = focal", r"replaces train.loss 'mse' of resjax.*my_mse"),
        ("LOSSES['none'] = 3", r"adds 3 as train.loss 'none', and not a function of logits"),
        ("ORDERS[7] = ORDERS['post']", r"as model.order 7, and not an Order"),
        ("ORDERS['x'] = NORM", r"as model.order 'x', and not an Order"),
        ("NORMS['x'] = 'batch'", r"adds 'batch' as norm.kind 'x', and not a function of config"),
        ("SCHEDULES['x'] = 0.1", r"adds 0.1 as optim.schedule 'x', and not a function of config"),
        ("OPTIMIZERS['x'] = 'sgd'", r"adds 'sgd' as optim.name 'x', and not a function"),
    ],
)
def test_what_is_taken_or_is_no_entry_is_refused_and_leaves_the_tables(mine, tables, line, message):
    (mine / "mine.py").write_text(f"{FILE}\n{line}\n")
    before = {name: dict(table) for name, table in tables.items()}
    with pytest.raises(ConfigError, match=message):
        load_experiment("mine.py")
    assert tables == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(1 - right) ** 2 *", "(1 - right).mean() *", None),
        ("return (1 - right) ** 2 *", "return jnp.mean(right) -", None),
        (
            "return (1 - right) ** 2 * cross_entropy(logits, labels)",
            "return cross_entropy(logits, labels).mean()",
            r"train.loss=focal gives 4 examples losses of shape \(\); return one for each",
        ),
        ("jax.nn.softmax(logits)", "logits.oops", "train.loss=focal.*line 16.*oops"),
        ("groups=2, dtype", "groups=3, dtype", "norm.kind=pairs.*3 groups do not divide"),
    ],
)
def test_parts_that_make_no_network_are_refused_before_training(mine, old, new, message):
    assert old in FILE
    (mine / "mine.py").write_text(FILE.replace(old, new))
    _, config = load_experiment("mine.py")
    if message is None:
        check({mine / "run": config})
        return
    with pytest.raises(ConfigError, match=message):
        check({mine / "run": config})
    assert "pairs" in NORMS


@pytest.mark.parametrize(("entry", "message"), [
    (lambda norm, dtype: GroupNorm, "takes 2 positional arguments but 3 were given"),
    (lambda norm, dtype, axis_name: nn.LayerNorm, "unexpected keyword argument 'zero_scale'"),
    (lambda norm, dtype, axis_name: GroupNorm(), "missing a required argument: 'x'"),
    (lambda norm, dtype, axis_name: None, "None is not a callable object"),
])  # fmt: skip
def test_a_normalisation_of_another_form_is_refused_with_the_form(entry, message, tiny, tables):
    tables["NORMS"]["other"], tiny.norm.kind = entry, "other"
    form = r"config\.norm, the dtype .* returns make\(name=, zero_scale=, measuring=\)"
    with pytest.raises(ConfigError, match=f"norm.kind=other: .*{message}; its entry .*{form}"):
        build_model(tiny, 10)


def test_parts_of_a_notebook_that_make_no_network_are_refused_before_training(tiny, tables):
    """They are added by no experiment file, but by what calls `resjax.sweep`."""
    tables["NORMS"]["thirds"] = lambda norm, dtype, _: functools.partial(GroupNorm, groups=3)
    tables["LOSSES"]["whole"] = lambda logits, labels: (logits[:, 0] - labels).mean()
    tiny.norm.kind = "thirds"
    with pytest.raises(ConfigError, match=r"norm.kind=thirds.*3 groups do not divide"):
        check({Path("run"): tiny})
    tiny.norm.kind, tiny.train.loss = "batch", "whole"
    with pytest.raises(ConfigError, match=r"train.loss=whole gives 4 examples losses of shape"):
        check({Path("run"): tiny})


@pytest.mark.parametrize("key", DEFINABLE)
def test_where_a_part_is_unknown_the_remedy_is_to_name_the_file(key, tiny):
    tiny.update_from_flattened_dict({key: "lost"})
    remedy = f"unknown {key} 'lost'; .*, or name the experiment file that defines it by --config="
    with pytest.raises(ConfigError, match=remedy), definitions([]):
        make_plan(tiny)


def test_every_run_of_a_grid_is_tried_whatever_its_place(mine):
    text = FILE.replace("GroupNorm, groups=2, dtype", "GroupNorm, groups=3, dtype")
    (mine / "mine.py").write_text(text)
    _, config = load_experiment("mine.py")
    whole = config.copy_and_resolve_references()
    whole.norm.kind = "batch"
    check({mine / "whole": whole})
    with pytest.raises(ConfigError, match=r"norm.kind=pairs.*3 groups do not divide"):
        check({mine / "whole": whole, mine / "broken": config})
