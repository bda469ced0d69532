"""Probes at the evaluations of a run, and of its checkpoints by command."""

import json
import shutil

import jax
import numpy as np
import pytest

from resjax.cli.main import main
from resjax.config import ConfigError
from resjax.config.naming import run_id
from resjax.probes.gradients import gradients
from resjax.probes.table import PROBES
from resjax.report.probes import surface_in_words
from resjax.runs import checkpoint, disk
from resjax.runs.loop import train_and_evaluate
from resjax.runs.probing import Probed, probe_run
from resjax.training.feeds import make_feed
from resjax.training.plan import make_plan
from resjax.training.state import create_state


@pytest.fixture
def dense(tiny):
    """A plain MLP of four blocks for twenty steps, with two evaluations."""
    tiny.model.name, tiny.model.depth, tiny.model.width = "mlp", 10, 8
    tiny.model.shortcut, tiny.eval.probe_examples = "none", 64
    return tiny


@pytest.mark.slow
def test_a_run_that_is_probed_has_the_bits_and_the_name_of_one_that_is_not(dense, tmp_path):
    name = run_id(dense)
    train_and_evaluate(dense, tmp_path / "without")
    dense.eval.probes = "gradients, gates,branches"
    assert run_id(dense) == name
    train_and_evaluate(dense, tmp_path / "with")
    files = [tmp_path / run / "metrics.jsonl" for run in ("without", "with")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not (tmp_path / "without" / "probes.jsonl").exists()
    lines = disk.read_lines(tmp_path / "with" / "probes.jsonl")
    assert [line["step"] for line in lines] == [10, 20]
    assert set(lines[0]) == {"step", "gradients", "branches"}  # there are no gates
    assert len(lines[0]["gradients"]["input"]) == 4
    # The last line is what the command finds in the last checkpoint.
    found = probe_run(tmp_path / "with", ["gradients"]).found["gradients"]
    np.testing.assert_array_equal(np.float32(lines[1]["gradients"]["input"]), found["input"])


@pytest.mark.slow
def test_lines_beyond_the_checkpoint_are_not_doubled(dense, tmp_path, monkeypatch):
    dense.eval.probes = "branches"
    train_and_evaluate(dense, tmp_path / "whole")
    dense.checkpoint.seconds = 0.0

    append = disk.append_line

    def append_and_end(path, line):
        """The process ends when the last evaluation is made and does not count yet."""
        append(path, line)
        if path.name == "probes.jsonl" and line["step"] == 20:
            raise KeyboardInterrupt

    monkeypatch.setattr(disk, "append_line", append_and_end)
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(dense, tmp_path / "cut")
    left = disk.read_lines(tmp_path / "cut" / "probes.jsonl")
    assert [line["step"] for line in left] == [10, 20]
    assert checkpoint.newest(tmp_path / "cut")[1].evaluated == 10
    monkeypatch.setattr(disk, "append_line", append)
    train_and_evaluate(dense, tmp_path / "cut")
    files = [tmp_path / run / "probes.jsonl" for run in ("whole", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_the_command_writes_arrays_and_figures(dense, tmp_path, capsys):
    train_and_evaluate(dense, tmp_path / "run")
    assert main(["probe", str(tmp_path / "run"), "--examples=40"]) == 0
    out, err = capsys.readouterr()
    assert [line for line in err.splitlines() if line.startswith("probe ")] == [
        f"probe {name}" for name in PROBES
    ]
    assert "nan" not in out
    deleted = next(line for line in out.splitlines() if line.split()[:2] == ["lesions", "deleted"])
    assert all(cell.endswith("%") for cell in deleted.split()[2:])
    assert not [line for line in out.splitlines() if line.endswith(" ") or not line]
    swapped = next(line for line in out.splitlines() if line.split()[:2] == ["lesions", "swapped"])
    assert [cell == "-" for cell in swapped.split()[2:]] == [True, False, True]
    assert "several numbers in a cell are those of the layers of the block, in order" in out
    assert "at step 20: 4 blocks, by the first 40 examples" in out
    assert any(line.split()[:2] == ["gradients", "input"] for line in out.splitlines())
    directory = tmp_path / "run" / "probes" / "20"
    content = disk.read_json(directory / "probes.json")
    drawn = set(PROBES) - {"gates"}
    assert set(content["probes"]) == drawn
    assert {path.stem for path in directory.glob("*.svg")} == drawn
    assert content["stages"] == [4]
    assert content["probes"]["lesions"]["swapped"][0] is None  # JSON has no NaN
    losses = np.array(content["probes"]["surface"]["loss"])
    assert losses.shape == (15, 15)
    assert (
        f"surface: loss {losses[7, 7]:.4g} at the centre, which is the network; "
        f"{losses.min():.4g} to {losses.max():.4g} on the whole grid; contours in surface.png\n"
    ) in out
    assert main(["probe", str(tmp_path / "run"), "--examples=40", "--probe=surface,gates"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "surface",
        "gates",
        "arrays and figures",
    ]
    assert lines[2] == "gates: the network has none"
    drawing = (directory / "lesions.svg").read_text()
    assert "block (%)" in drawing
    assert "the network as it is" in drawing


@pytest.mark.slow
def test_weights_without_a_checkpoint_are_probed_as_those_of_the_checkpoint(tiny, tmp_path):
    train_and_evaluate(tiny, tmp_path / "run")
    names = ["gradients", "branches"]
    expected = probe_run(tmp_path / "run", names, examples=50)
    with pytest.raises(ConfigError, match="--data=shapes is for weights that were imported"):
        probe_run(tmp_path / "run", names, examples=50, data="shapes")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    found = probe_run(tmp_path / "run", names, examples=50, data="digits")
    for name, arrays in expected.found.items():
        for quantity, array in arrays.items():
            np.testing.assert_array_equal(found.found[name][quantity], array)
    with pytest.raises(ConfigError, match="tells 10 classes apart, and fake:8x8x1:7 has 7"):
        probe_run(tmp_path / "run", names, examples=50, data="fake:8x8x1:7")


@pytest.mark.slow
def test_more_examples_than_there_are_are_refused(tiny, tmp_path, capsys):
    train_and_evaluate(tiny, tmp_path / "run")
    assert main(["probe", str(tmp_path / "run"), "--examples=1000000000"]) == 2
    told = "--examples=1000000000 is more than there are, 360 of test and 1437 of train; use fewer"
    assert told in capsys.readouterr().err
    with pytest.raises(ConfigError, match="more than there are, 360 of test; use fewer"):
        probe_run(tmp_path / "run", ["lesions"], examples=361)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_step_0_is_the_network_before_training(dense, tmp_path):
    dense.model.dtype = "float64"
    train_and_evaluate(dense, tmp_path / "run")
    probed = probe_run(tmp_path / "run", ["gradients"], step=0, examples=30)
    plan = make_plan(dense)
    state = create_state(plan.model, plan.optimizer, dense.seed, plan.image_shape)
    batch = make_feed(plan).first_examples("train", 30)
    assert batch.images.shape == (30, 8, 8, 1)
    np.testing.assert_array_equal(batch.labels, plan.source.train.labels[:30])
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    expected = jax.jit(lambda v, b: gradients(plan.model, v, b))(variables, batch)
    assert probed.step == 0
    np.testing.assert_allclose(probed.found["gradients"]["input"], expected["input"], rtol=1e-9)


@pytest.mark.slow
def test_what_cannot_be_probed_is_refused_in_one_line(dense, tmp_path, capsys):
    dense.eval.probes = "gradient"
    with pytest.raises(ConfigError, match=r"unknown eval.probes 'gradient'; choose one of: grad"):
        train_and_evaluate(dense, tmp_path / "run")
    dense.eval.probes = ""
    train_and_evaluate(dense, tmp_path / "run")
    for words, message in (
        (["--checkpoint=7"], "has no checkpoint of step 7; choose one of: 0 (before training), 20"),
        (["--probe=foo"], "unknown probe 'foo'"),
        (["--examples=0"], "'0' is not a positive number"),
    ):
        assert main(["probe", str(tmp_path / "run"), *words]) == 2
        assert message in capsys.readouterr().err
    assert main(["probe", str(tmp_path)]) == 2
    said = f"{tmp_path} is a sweep; name one of its runs, such as {tmp_path / 'run'}"
    assert said in capsys.readouterr().err
    checkpoints = tmp_path / "run" / "checkpoints"
    shutil.copytree(checkpoints / "20", checkpoints / "21")
    damaged = checkpoints / "21" / "checkpoint.json"
    damaged.write_bytes(damaged.read_bytes().replace(b"grown", b"groan"))
    assert main(["probe", str(tmp_path / "run")]) == 2  # and not of another step without a word
    told = capsys.readouterr().err
    assert "checkpoint 21 is damaged" in told
    assert "; --checkpoint=20 probes the newest that is whole" in told
    for path in checkpoints.rglob("*"):
        if path.is_file() and path.name != "checkpoint.json":
            path.write_bytes(b"x" + path.read_bytes())
    assert main(["probe", str(tmp_path / "run")]) == 2
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.slow
def test_damaged_lines_are_named_with_the_remedy(dense, tmp_path):
    dense.eval.probes = "branches"
    train_and_evaluate(dense, tmp_path)
    (tmp_path / "result.json").unlink()
    line = json.loads((tmp_path / "probes.jsonl").read_text().splitlines()[0])
    (tmp_path / "probes.jsonl").write_text(json.dumps(line | {"step": 11}) + "\n")
    with pytest.raises(ConfigError, match=r"probes.jsonl .*; remove it, and the run goes on"):
        train_and_evaluate(dense, tmp_path)


def test_a_surface_that_is_not_finite_everywhere_says_where_its_contours_went():
    loss = np.array([[np.nan, 3.0, np.inf], [2.0, 1.0, 4.0], [5.0, 6.0, 7.0]])
    found = {"surface": {"offset": np.array([-1.0, 0.0, 1.0]), "loss": loss}}
    assert surface_in_words(Probed("run", "none", 4, (1,), 8, found), "surface") == (
        "loss 1 at the centre, which is the network; 1 to 7 on the whole grid; no contours, as it "
        "is not finite at 2 of 9 points"
    )
