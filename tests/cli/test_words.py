"""What others call keys and values is answered with what it is called here."""

from pathlib import Path

import pytest

from resjax.cli.arguments import split
from resjax.cli.commands.experiment import read_experiment
from resjax.cli.main import main
from resjax.config import default_config
from resjax.config.keys import KEYS
from resjax.config.naming import run_id
from resjax.config.words import NAMES, WORDS
from resjax.models.build import named_model
from resjax.runs.loop import train_and_evaluate
from resjax.runs.rundir import read_config
from resjax.sweeps.grid import experiment_runs
from resjax.training.plan import make_plan

EXPERIMENT = "--config=experiments/degradation.py"


@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_the_trade_is_no_key_and_means_one(word):
    """Which an option and a key of that name are answered with, and which can be set as told."""
    assert word not in {name for key in KEYS for name in (key, key.rpartition(".")[2])}
    key, equals, value = WORDS[word].partition("=")
    assert key in KEYS
    value = value.strip("'") if equals else KEYS[key].default
    words = split([EXPERIMENT, f"--config.{key}={value}"])[1]
    if not isinstance(value, tuple) and "PATH" not in str(value):
        read_experiment(words)


@pytest.mark.parametrize("key", NAMES)
def test_a_name_of_the_trade_is_no_value_and_is_answered_with_one(key):
    for name, meant in NAMES[key].items():
        config = default_config()
        config.update_from_flattened_dict({key: name})
        with pytest.raises(ValueError, match=rf"unknown {key} '{name}'; .*; here it is {meant}$"):
            make_plan(config)
        config.update_from_flattened_dict({key: meant.partition(",")[0]})
        if not meant.startswith(("tfds", "cifar", "imagenet", "float64")):
            make_plan(config)


@pytest.mark.parametrize(("words", "told"), [
    (["--epochs=30"], "unknown option --epochs; use --config.train.duration='30 epochs'"),
    (["--lr", "0.1"], "unknown option --lr; use --config.optim.learning_rate"),
    (["--batch-size=8"], "use --config.train.batch_size or --config.eval.batch_size"),
    (["--config.lr=0.1"], "unknown config key 'lr'; use optim.learning_rate"),
    (["--config.train.epochs=3"], "config key 'train.epochs'; use train.duration='30 epochs'"),
    (["--config.optim.name=AdamW"], "adamw, lars; here it is adamw\n"),
    (["--config.optim.name=lion"], "; here it is adamw, the nearest; an experiment file may add"),
    (["--config.optim.eps=1e-6"], "unknown config key 'optim.eps'; use optim.epsilon"),
    (["--config.optim.max_grad_norm=1"], "key 'optim.max_grad_norm'; use optim.clip_norm"),
    (["--config.model.name=resnet20"], "here it is model.name=cifar, model.depth=20"),
    (["--config.model.name=resnet50"], "it is model.name=imagenet, model.depth=50, model.shortcut"),
])  # fmt: skip
def test_words_of_the_trade_are_answered(words, told, capsys):
    assert main(["train", EXPERIMENT, *words]) == 2
    assert told in capsys.readouterr().err


def test_a_network_of_cifar_is_told_by_its_whole_name(capsys):
    assert main(["describe", "resnet20"]) == 2
    assert "unknown network 'resnet20'; use cifar-resnet20" in capsys.readouterr().err
    assert main(["describe", "resnet51"]) == 2  # 49 is not 6n
    assert "unknown network 'resnet51'; nearest: resnet50" in capsys.readouterr().err


def test_a_word_of_the_trade_in_a_file_is_answered(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(
        "from resjax.config import default_config\n"
        "def get_config():\n    config = default_config()\n"
        "    config.train.epochs = 3\n    return config\n"
    )
    assert main(["train", f"--config={path}"]) == 2
    assert "use train.duration='30 epochs'" in capsys.readouterr().err


def test_plain_is_none_wherever_that_is_taken(tmp_path, capsys):
    """One run, whichever was written, and one name of it."""
    path = tmp_path / "mine.py"
    path.write_text(
        "from resjax.config import default_config as get_config\n"
        "def sweep_shortcut():\n"
        "    for name in ('plain', 'none', 'identity'):\n        yield {'model.shortcut': name}\n"
    )
    runs = experiment_runs(str(path), tmp_path)
    assert [run.model.shortcut for run in runs.values()] == ["none", "identity"]
    for only in ("plain", "none"):
        runs = experiment_runs(str(path), tmp_path, only=[f"shortcut={only}"])
        assert [run.model.shortcut for run in runs.values()] == ["none"]
    words = ["--config=" + str(path), "--sweep=shortcut", "--workdir", str(tmp_path / "runs")]
    assert main(["sweep", *words, "--only=shortcut=plain", "--dry-run"]) == 0
    assert "1 run: 1 waiting" in capsys.readouterr().out
    _, _, config, _ = read_experiment([EXPERIMENT, "--config.model.shortcut=plain"])
    _, _, other, _ = read_experiment([EXPERIMENT, "--config.model.shortcut=none"])
    assert run_id(config) == run_id(other)
    plain, none = (named_model("cifar-resnet8", shortcut=name) for name in ("plain", "none"))
    assert plain.parts.shortcut.func is none.parts.shortcut.func
    assert main(["describe", "resnet18", "--config.model.shortcut=plain"]) == 0


@pytest.mark.slow
def test_a_run_of_a_config_that_says_plain_is_recorded_as_none(tmp_path, tiny):
    tiny.model.shortcut = "plain"
    train_and_evaluate(tiny, tmp_path / "run")
    assert read_config(tmp_path / "run")["model.shortcut"] == "none"


def test_an_experiment_may_have_a_shortcut_of_its_own_that_is_named_plain(tmp_path, shortcuts):
    path = tmp_path / "mine.py"
    path.write_text(
        "from resjax.config import default_config\n"
        "from resjax.models.shortcuts import SHORTCUTS, Identity\n"
        "class Mine(Identity):\n    ...\n"
        "SHORTCUTS['plain'] = Mine\n"
        "def get_config():\n"
        "    config = default_config()\n    config.model.shortcut = 'plain'\n    return config\n"
    )
    [run] = experiment_runs(str(path), tmp_path)
    assert Path(run).name.startswith("plain-20-seed0-")
