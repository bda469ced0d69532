"""An experiment file brings a source of images, a probe, and a loss with a number of its own."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from resjax.cli.main import main
from resjax.config import ConfigError
from resjax.config.tables import snapshot
from resjax.data.sources import load
from resjax.runs.disk import read_lines
from resjax.runs.rundir import read_metrics
from resjax.runs.weights import read_weights
from resjax.sweeps.experiment import load_experiment
from resjax.sweeps.local import check
from resjax.training.plan import make_plan

FILE = """
import jax.numpy as jnp
import numpy as np

from resjax.config import default_config
from resjax.config.keys import KEYS, Key
from resjax.data.source import Source, Split
from resjax.data.sources import SOURCES, Kind, sliced
from resjax.probes.table import PROBES, Probe
from resjax.probes.walk import forward, norm
from resjax.training.losses import LOSSES, cross_entropy


def stripes(width):
    rows = np.arange(64) % 2
    images = np.zeros((64, 8, 8, 1), np.uint8)
    images[rows == 0, :, : int(width)] = 255
    split = Split(images, rows.astype(np.int32))
    return Source(split, split, ("left", "none"))


def means(model, variables, batch):
    def visit(block, x, _):
        return block(x), x.mean()

    return {"mean": forward(model, variables, batch.images, visit)[1]}


def sharp(logits, labels, sharpness):
    return cross_entropy(sharpness * logits, labels)


SOURCES["stripes"] = Kind("stripes:WIDTH", "stripes:([1-8])", sliced(stripes))
PROBES["means"] = Probe(means)
LOSSES["sharp"] = sharp
KEYS["train.sharpness"] = Key(1.0, "Factor on the logits.", within=(0.0, 100.0))


def get_config():
    config = default_config()
    config.model.update({"depth": 8, "width": 2})
    config.data.name = "stripes:4"
    config.train.update({"duration": "4 steps", "batch_size": 32, "loss": "sharp"})
    config.eval.update({"every": "2 steps", "probes": "means", "probe_examples": 10})
    config.log.writers = ()
    return config
"""


@pytest.mark.slow
def test_a_run_is_trained_on_the_source_and_probed_and_both_are_known_with_the_file(mine, capsys):
    restore, words = snapshot(), ["train", "--config=mine.py", "--workdir=run"]
    assert main([*words, "--config.train.sharpness=0"]) == 0
    lines = read_metrics(mine / "run")
    assert [line["test_loss"] for line in lines] == pytest.approx([np.log(2)] * 2)  # of no logits
    assert read_weights(mine / "run").about.class_names == ("left", "none")
    probed = read_lines(mine / "run" / "probes.jsonl")
    assert [len(line["means"]["mean"]) for line in probed] == [3, 3]
    restore()
    again = ["probe", "run", "--probe=means", "--out=probed"]
    capsys.readouterr()
    assert main(again) == 2
    assert "unknown probe 'means'; choose one of: gradients" in capsys.readouterr().err
    assert main([*again, "--config=mine.py"]) == 0
    found = json.loads((mine / "probed" / "probes.json").read_text())
    assert found["probes"]["means"]["mean"] == pytest.approx(probed[-1]["means"]["mean"])
    restore()
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 2
    assert "train.sharpness is a key of mine.py; name it by --config=mine.py" in (
        capsys.readouterr().err
    )
    assert main(["evaluate", "run", "--config=mine.py"]) == 0


def test_a_loss_has_the_number_of_the_key_that_is_named_as_its_argument(mine):
    _, config = load_experiment("mine.py")
    config.train.sharpness = 3.0
    plan = make_plan(config)
    logits, labels = jnp.array([[1.0, 2.0], [0.0, -1.0]]), jnp.array([0, 1])
    expected = np.log1p(np.exp(3.0 * np.array([1.0, 1.0])))
    for loss in (plan.loss, plan.clean_loss):
        np.testing.assert_allclose(loss(logits, labels), expected, rtol=1e-6)


def test_a_file_that_is_loaded_again_may_bring_another_source_of_the_name(mine):
    load_experiment("mine.py")
    assert load("stripes:4").train.images[0].sum() == 8 * 4 * 255
    (mine / "mine.py").write_text(FILE.replace("= 255", "= 100"))
    load_experiment("mine.py")
    assert load("stripes:4").train.images[0].sum() == 8 * 4 * 100


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"stripes:4"', '"stripes:9"', r"data.name='stripes:9' is not stripes:WIDTH"),
        ('"stripes:4"', '"strips:4"', r"unknown data.name 'strips'; choose .* folder, stripes"),
        ("return Source(", "return (", r"stripes gives tuple; return a Source"),
        ('("left", "none")', '("left",)', r"labels from 0 to 1, and there are 1 class names"),
        ("np.int32", "np.float32", r"the split train has images \(64, 8, 8, 1\) .* float32"),
        ('"mean": forward', '"mean": 1 / 0, "x": forward', r"eval.probes=means.*by zero"),
        ("x.mean()", "x.oops", r"mine.py, line \d+: AttributeError.*oops"),
        ("images, visit)[1]}", "images, visit)[1][:2]}", r"has shape \(2,\); .* the 3 blocks"),
        ('return {"mean": ', "return {'mean': 1}, {'mean': ", r"means gives tuple; return"),
        ("Probe(means)", "means", r"> as eval.probes 'means', and not a Probe"),
        ('Kind("stripes:WIDTH", "stripes:([1-8])", sliced(stripes))', "stripes",
         r"adds <function stripes.*> as data.name 'stripes', and not a Kind of source"),
        ('SOURCES["stripes"]', 'SOURCES["digits"]', r"replaces data.name 'digits' of resjax"),
        ('PROBES["means"]', 'PROBES["paths"]', r"replaces eval.probes 'paths' of resjax"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_training(mine, old, new, message):
    assert old in FILE
    (mine / "mine.py").write_text(FILE.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        check({mine / "run": load_experiment("mine.py")[1]})
