"""An experiment file brings keys: a class, a key and a line are a shortcut with a number."""

import importlib
import shutil
import sys

import numpy as np
import pytest

from resjax.cli.main import main
from resjax.config import ConfigError, default_config, flatten
from resjax.config.keys import KEYS, Key
from resjax.config.naming import deciding_keys, run_id
from resjax.config.tables import snapshot
from resjax.models.build import build_model
from resjax.report.report import read_sweep
from resjax.report.run_table import columns
from resjax.runs import doctor
from resjax.runs.rundir import read_config
from resjax.runs.weights import read_weights
from resjax.sweeps.experiment import load_experiment
from resjax.sweeps.grid import axes_of, expand
from resjax.sweeps.local import check

FILE = """
from resjax.config import default_config
from resjax.config.keys import KEYS, Key
from resjax.models.shortcuts import SHORTCUTS, Identity


class Leaky(Identity):
    alpha: float = 0.5

    def carry(self, x, train):
        return self.alpha * super().carry(x, train)


SHORTCUTS["leaky"] = Leaky
KEYS["model.alpha"] = Key(0.5, "Share of its input that a block keeps.", within=(0.0, 1.0))


def get_config():
    config = default_config()
    config.model.update({"depth": 8, "width": 2, "shortcut": "leaky"})
    config.train.update({"duration": "2 steps", "batch_size": 32})
    config.log.writers = ()
    return config


def sweep_alpha():
    for alpha in (0.5, 0.25):
        yield {"model.alpha": alpha}
"""


@pytest.fixture
def mine(tmp_path, monkeypatch, tables):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path


def test_a_key_is_in_the_configs_of_its_file_and_names_the_runs_that_differ_in_it(mine):
    old = default_config()
    module, config = load_experiment("mine.py")
    assert config.model.alpha == 0.5
    assert run_id(default_config()) == run_id(old)
    runs = expand(config, [axes_of(module, config)["alpha"]])
    assert [deciding_keys(run).get("model.alpha") for run in runs.values()] == [None, 0.25]
    check({mine / name: run for name, run in runs.items()})


def test_a_field_of_a_shortcut_is_filled_from_the_key_of_its_name(mine):
    """It then computes what the scaled shortcut of the same number does."""
    _, config = load_experiment("mine.py")
    config.model.alpha = 0.25
    scaled = config.copy_and_resolve_references()
    scaled.model.update({"shortcut": "scaled", "shortcut_scale": 0.25, "branch_scale": 1.0})
    x, branch = np.random.default_rng(0).normal(size=(2, 3, 4, 4, 5)).astype(np.float32)
    one, other = (
        build_model(each, 10)
        .parts.shortcut(channels=5, stride=1, layer=None, norm=None)
        .apply({}, x, branch, train=False)
        for each in (config, scaled)
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--config.model.alpha=1.5", "model.alpha=1.5 is not a number from 0 to 1"),
        ("--config.model.alpha=nan", "model.alpha=nan is not a number from 0 to 1"),
        ("--config.model.alpha=much", "model.alpha=much is not a finite number"),
        ("--config.model.alhpa=0.3", "unknown config key 'model.alhpa'; nearest: model.alpha"),
    ],
)
def test_a_value_is_checked_as_those_of_other_keys_are(mine, capsys, word, message):
    assert main(["train", "--config=mine.py", "--workdir=run", word]) == 2
    assert message in capsys.readouterr().err
    assert not (mine / "run").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("KEYS['model.depth'] = Key(8, 'Other.')", "mine.py replaces config key 'model.depth' of "
         "resjax, after which runs are named; give its own another name, such as model.my_depth"),
        ("KEYS['model.beta'] = 0.5", "adds 0.5 as config key 'model.beta', and not a Key"),
        ("KEYS['model.beta'] = Key(None, 'None.')", "config key 'model.beta', and not a Key"),
        ("KEYS['beta'] = Key(0.5, 'Free.')", "has a section and a name, as model.alpha, and not"),
        ("KEYS['mine.beta'] = Key(0.5, 'Free.')", "the sections are model, norm, data, optim"),
        ("raise ValueError", "mine.py cannot be imported: ValueError"),
    ],
)  # fmt: skip
def test_a_key_that_is_taken_or_is_none_is_refused_and_leaves_the_others(mine, line, message):
    (mine / "mine.py").write_text(f"{FILE}\n{line}\n")
    before = dict(KEYS)
    with pytest.raises(ConfigError, match=message):
        load_experiment("mine.py")
    assert before == KEYS
    assert "model.alpha" not in flatten(default_config())


def test_a_key_of_another_file_is_taken_and_one_of_its_own_is_not(mine):
    load_experiment("mine.py")
    (mine / "mine.py").write_text(FILE.replace("Key(0.5", "Key(0.75"))
    assert load_experiment("mine.py")[1].model.alpha == 0.75
    (mine / "yours.py").write_text(FILE.replace("leaky", "yours"))
    with pytest.raises(
        ConfigError, match=r"yours.py replaces config key 'model.alpha' of .*mine.py"
    ):
        load_experiment("yours.py")


def test_a_key_that_a_program_has_added_is_known_as_such_and_may_be_added_alike(mine):
    KEYS["model.alpha"] = Key(0.5, "Share of its input that a block keeps.", within=(0.0, 1.0))
    assert KEYS.added({"model.alpha": 0.5})["model.alpha"]["file"] == ""
    load_experiment("mine.py")  # it adds the same
    (mine / "yours.py").write_text(FILE.replace("Key(0.5", "Key(0.75").replace("leaky", "yours"))
    with pytest.raises(ConfigError, match=r"replaces config key 'model.alpha' of this program"):
        load_experiment("yours.py")


def test_what_every_shortcut_is_given_by_its_block_is_filled_from_no_key(mine):
    KEYS["model.parent"] = Key("nobody", "It is no parent of a Flax module.")
    assert "parent" not in build_model(default_config(), 10).parts.shortcut.keywords


def test_a_config_that_was_made_before_has_no_need_of_the_key(mine, tiny):
    load_experiment("mine.py")
    check({mine / "run": tiny})


@pytest.mark.slow
def test_a_run_is_read_resumed_and_probed_and_without_the_file_that_is_named(mine, capsys):
    restore = snapshot()
    assert main(["sweep", "--config=mine.py", "--workdir=runs"]) == 0
    report = (mine / "runs" / "report" / "table.md").read_bytes()
    [half, quarter] = sorted(
        mine.glob("runs/leaky-*"), key=lambda run: -read_config(run)["model.alpha"]
    )
    probed = ["probe", str(quarter), "--probe=responses", "--examples=9", "--out=probed"]
    evaluated = ["evaluate", str(half), "--split=test[:20]"]
    restore()  # as a new process
    assert "model.alpha" not in read_config(half)
    assert deciding_keys(read_config(quarter))["model.alpha"] == 0.25
    assert main(["report", "runs"]) == 0
    assert (mine / "runs" / "report" / "table.md").read_bytes() == report
    assert [arm.name for arm in read_sweep("runs").sections[0].table.arms] == [
        "alpha=0.25", "alpha=0.5",
    ]  # fmt: skip
    [values] = [c.values for c in columns(read_sweep("runs")) if c.name == "model.alpha"]
    assert sorted(values) == ["0.25", "0.5"]
    capsys.readouterr()
    for words in (probed, evaluated):
        assert main(words) == 2
        told = capsys.readouterr().err
        assert "model.alpha is a key of mine.py; name it by --config=mine.py, or in" in told
        assert told.count("\n") == 1
        assert main([*words, "--config=mine.py"]) == 0
        capsys.readouterr()
        restore()
    words = ["train", "--config=mine.py", "--config.model.alpha=0.25", f"--workdir={quarter}"]
    assert main(words) == 0  # it is done, and read
    capsys.readouterr()
    assert main([*words, "--config.model.alpha=0.75"]) == 2
    assert "model.alpha is 0.25 there, 0.75 here" in capsys.readouterr().err
    (mine / "mine.py").write_text(FILE.replace("Key(0.5", "Key(0.75"))
    restore()
    assert main(["train", "--config=mine.py", f"--workdir={half}"]) == 2
    assert "model.alpha is 0.5 there, 0.75 here" in capsys.readouterr().err


@pytest.mark.slow
def test_a_doctor_needs_no_file_to_tell_whole_weights_from_damaged_ones(mine, capsys):
    restore = snapshot()
    assert main(["train", "--config=mine.py", "--workdir=run"]) == 0
    restore()  # as a new process
    assert (doctor.examine(mine / "run").state, doctor.examine(mine / "run").advice) == ("done", "")
    path = mine / "run" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(content)
    found = doctor.examine(mine / "run")
    assert (found.state, str(path) in found.why) == ("damaged", True)


def test_a_program_reads_a_network_once_it_has_imported_the_file(mine, monkeypatch):
    restore = snapshot()
    assert main(["train", "--config=mine.py", "--workdir=run"]) == 0
    restore()  # as a new process
    with pytest.raises(ConfigError, match=r"--config=mine.py, or in Python import it first$"):
        read_weights("run")
    monkeypatch.syspath_prepend(mine)
    importlib.import_module("mine")
    del sys.modules["mine"]  # which is another file in another test
    assert read_weights("run").about.config.model.alpha == 0.5


@pytest.mark.parametrize(("there", "here", "message"), [
    ("alpha: float = 0.5", "alfa: float = 0.5",
     "mine.py adds model.alpha, which no shortcut reads; give one a field 'alpha', or rename"),
    ('KEYS["model.alpha"]', 'KEYS["train.alpha"]',
     "mine.py adds train.alpha, which no loss reads; give one an argument 'alpha', or rename"),
])  # fmt: skip
def test_a_key_that_nothing_reads_is_refused(there, here, message, mine, capsys):
    (mine / "mine.py").write_text(FILE.replace(there, here).replace("self.alpha", "1"))
    assert main(["sweep", "--config=mine.py", "--dry-run"]) == 2
    assert message in capsys.readouterr().err


def test_a_run_is_not_taken_for_that_of_other_code_of_its_shortcut(mine, capsys):
    words = ["train", "--config=mine.py", "--workdir=run"]
    assert main(words) == 0
    documented = FILE.replace("(Identity):", '(Identity):\n    """Leaks."""  # more or less\n')
    (mine / "mine.py").write_text(documented)
    assert main(words) == 0
    (mine / "mine.py").write_text(FILE.replace("return self.alpha", "return 10 * self.alpha"))
    assert main(words) == 2
    told = "run holds a run that was begun with other code of model.shortcut=leaky; give that"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(("there", "here", "remedy"), [
    ('KEYS["model.alpha"] =', "_ =",
     """; KEYS['model.alpha'] = Key(0.5, "Its meaning.") in the experiment file adds one"""),
    ("Key(0.5,", "Key(1,",
     "model.alpha=0.5, whose default 1 is a whole number; Key(1.0, ...) takes others"),
])  # fmt: skip
def test_an_axis_over_a_key_that_lacks_something_is_told_what(there, here, remedy, mine, capsys):
    (mine / "mine.py").write_text(FILE.replace(there, here))
    assert main(["sweep", "--config=mine.py", "--dry-run"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("resjax: an axis sets ")
    assert told.endswith(f"{remedy}\n")


@pytest.mark.slow
def test_a_run_that_ended_before_its_first_checkpoint_begins_again_and_says_so(mine, capsys):
    words = ["train", "--config=mine.py", "--workdir=run"]
    assert main(words) == 0
    assert "begins again" not in capsys.readouterr().err
    (mine / "run" / "result.json").unlink()
    shutil.rmtree(mine / "run" / "checkpoints")
    assert main(words) == 0
    assert "begins again: it ended before its first checkpoint" in capsys.readouterr().err
