import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resjax.cli import main
from resjax.data.sources import load

ROOT = Path(__file__).parents[1]
EXPERIMENT = ROOT / "experiments" / "degradation.py"
SMALL = (
    f"--config={EXPERIMENT}",
    "--config.model.width=2",
    "--config.model.depth=8",
    "--config.train.duration=20 steps",
)


def test_a_sweep_of_four_runs_from_the_command_line(tmp_path, capsys):
    words = ["sweep", *SMALL, "--sweep=shortcut", f"--workdir={tmp_path}", "--config.seed=5"]
    assert main(words) == 0
    first = capsys.readouterr()
    assert "1/4 none-8-seed5-" in first.err
    assert "figure: " in first.out
    assert (tmp_path / "report" / "figures" / "training_error.png").stat().st_size > 5000
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-*/*")}
    assert len(before) == 4 * 8
    assert main(words) == 0
    second = capsys.readouterr()
    assert second.err.count("done before") == 4
    assert second.out == first.out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-*/*")} == before
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == first.out


def test_one_run_from_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *SMALL]) == 0
    directory = Path(capsys.readouterr().out.removeprefix("run: ").strip())
    assert directory.parent == Path("runs/degradation")
    assert (directory / "result.json").is_file()


def test_a_run_on_fake_data_from_the_command_line(tmp_path):
    name = "fake:8x8x1:10:500"
    assert main(["train", *SMALL, f"--config.data.name={name}", f"--workdir={tmp_path}"]) == 0
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["data"] == {
        "name": name, "fingerprint": load(name).fingerprint, "train": 500, "test": 63,
    }  # fmt: skip
    result = json.loads((tmp_path / "result.json").read_text())
    assert 0.7 < result["test_error"] < 1  # there is nothing to learn


def test_a_run_that_fails_is_told_and_makes_the_exit_code_1(tmp_path, capsys):
    words = ["--config.optim.learning_rate=1e20", "--sweep=seed", f"--workdir={tmp_path}"]
    assert main(["sweep", *SMALL, *words]) == 1
    assert "failed: the training loss became" in capsys.readouterr().err
    assert main(["sweep", *SMALL, *words]) == 1  # known, and not trained again
    assert "to try again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config.model.depth=57"], "CIFAR depth 57 is not 6n+2; nearest: 56, 62"),
        (["--config.model.depth=deep"], "deep"),
        (["--config.model.shortcut=skip"], "none, identity, projection, projection_all"),
        (["--config.model.dpeth=56"], "'model.dpeth'; nearest: model.depth"),
        (["--config.optim.learning_rate=-1"], "optim.learning_rate=-1.0 is not a positive"),
        (["--config.optim.learning_rate=nan"], "optim.learning_rate=nan is not a positive"),
        (["--config.train.batch_size=2000"], "larger than the training set of 1437"),
        (["--config.data.name=mnist"], "unknown data.name 'mnist'; choose one of: digits"),
        (["--config.data.name=fake:8x8:10"], "'fake:8x8:10' is not fake:HxWxC:CLASSES"),
        (["--config.data.name=fake:2x2x1:10"], "images of 2x2 are too small"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate; see resjax --help"),
        (["stray"], "unrecognized arguments: stray"),
        (["-config.model.depth=8"], "unrecognized arguments: -config.model.depth=8"),
        ([f"--config={EXPERIMENT}"], "2 experiments given"),
        (["--config.model.depth", "57"], "CIFAR depth 57"),
        (["--config.model.depth"], "config.model.depth"),
        (["--config.optim.schedule=step", "--config.optim.milestones=(1,2)"], "duration 1 is not"),
        (["--config.optim.nesterov=maybe"], "optim.nesterov is bool"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys, words, message):
    assert main(["train", *SMALL, *words, f"--workdir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("resjax: ")
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no experiment file"),
        ("x = 1\n", "has no get_config()"),
        ("def get_config(:\n", "cannot be imported: SyntaxError"),
        ("def get_config():\n    return {}\n", "returned no ConfigDict"),
        ("def get_config():\n    raise KeyError('lost')\n", "KeyError: 'lost'"),
        (
            "from ml_collections import ConfigDict\ndef get_config():\n"
            "    return ConfigDict({'model': {'depth': 8}})\n",
            "is missing; start from default_config()",
        ),
    ],
)
def test_a_wrong_experiment_file_is_one_line_and_exit_code_2(tmp_path, capsys, content, message):
    path = tmp_path / "experiment.py"
    if content is not None:
        path.write_text(content)
    assert main(["sweep", f"--config={path}", f"--workdir={tmp_path / 'runs'}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_unknown_size_of_an_experiment_is_refused(tmp_path, capsys):
    assert main(["sweep", f"--config={EXPERIMENT}:mnist", f"--workdir={tmp_path / 'r'}"]) == 2
    assert "has no data 'mnist'; choose one of: digits, shapes" in capsys.readouterr().err


def test_a_workdir_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["sweep", *SMALL, "--sweep=seed", f"--workdir={tmp_path / 'file'}"]) == 2
    assert "choose another directory" in capsys.readouterr().err


def test_a_directory_of_another_config_is_refused_with_the_keys(tmp_path, capsys):
    assert main(["train", *SMALL, f"--workdir={tmp_path}"]) == 0
    assert main(["train", *SMALL, "--config.seed=4", f"--workdir={tmp_path}"]) == 2
    assert "(seed is 0 there, 4 here)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep", "--seeds=abc"], "invalid int value: 'abc'; see resjax sweep --help"),
        (["sweep", "--workdir="], "the name is empty"),
        (["sweep", "--workdir=gs://bucket/x"], "mount the bucket"),
        (["report"], "the following arguments are required: DIR"),
        ([], "the following arguments are required: COMMAND"),
        (["describe"], "describe takes a name such as resnet50"),
        (["describe", "resnet51"], "unknown network 'resnet51'; nearest: resnet50"),
        (
            ["describe", "resnet50", "--classes=0"],
            "argument --classes: '0' is not a positive number",
        ),
        (["describe", "resnet50", "--diagram="], "the name is empty"),
        (["describe", "resnet50", "--shortcut="], "unknown model.shortcut ''"),
        (["describe", "cifar-resnet999999999992"], "model.depth=999999999992 is not a number"),
        (["describe", "resnet50", "--size=31"], "the smallest are 32x32"),
        (["describe", "plain18", "--shortcut=gate"], "unknown model.shortcut 'gate'; choose"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_code_2(capsys, words, message):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_override_that_an_axis_would_undo_is_refused(tmp_path, capsys):
    words = ["sweep", *SMALL, f"--workdir={tmp_path / 'r'}"]
    assert main(words) == 2
    assert "--config.model.depth has no effect, axis 'depth' sets it" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_an_axis_that_fails_is_named(tmp_path, capsys):
    path = tmp_path / "experiment.py"
    for body, message in (
        ("raise KeyError(3)", "sweep_x() of the experiment: KeyError: 3"),
        ("return [3]", "sweep_x() of the experiment must yield {dotted key: value}"),
    ):
        path.write_text(f"from resjax.config import default_config as get_config\n"
                        f"def sweep_x():\n    {body}\n")  # fmt: skip
        assert main(["sweep", f"--config={path}", f"--workdir={tmp_path / 'r'}"]) == 2
        assert message in capsys.readouterr().err


def test_describe_prints_a_table_or_one_json_object_and_draws(tmp_path, capsys):
    assert main(["describe", "resnet50", "--stride-in=1x1"]) == 0
    text = capsys.readouterr().out
    assert "50 weighted layers, 4 projections" in text
    assert "3,857,973,248" in text
    words = ["describe", "cifar-resnet20", "--shortcut=projection_all", "--classes=100", "--json"]
    assert main([*words, f"--diagram={tmp_path / 'net.svg'}"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert {key: fields[key] for key in ("name", "layers", "params", "projections")} == {
        "name": "cifar-resnet20",
        "layers": 20,
        "params": 283_962 + 90 * 65,
        "projections": 9,
    }
    assert fields["batch_stats"] == 2_048
    assert {path.name for path in tmp_path.iterdir()} == {"net.svg", "net.png", "net.pdf"}
    assert main(["describe", *SMALL]) == 0
    assert "images of 8x8x1" in capsys.readouterr().out


def test_no_experiment_and_no_runs(tmp_path, capsys):
    assert main(["train"]) == 2
    assert "no experiment given" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 2
    assert "no finished run" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["train"], ["sweep"], ["report"], ["describe"]])
def test_help_names_every_option(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    options = {
        (): ["train", "sweep", "report", "describe", "--version"],
        ("train",): ["--config=FILE", "--config.KEY=VALUE", "--workdir"],
        ("sweep",): ["--config=FILE", "--config.KEY=VALUE", "--workdir", "--sweep", "--seeds"],
        ("report",): ["DIR"],
        ("describe",): ["--shortcut", "--order", "--stride-in", "--classes", "--json", "--diagram"],
    }[tuple(command)]
    assert all(option in text for option in options)


def test_importing_resjax_is_quick_and_takes_nothing_along():
    heavy = {"jax", "matplotlib", "sklearn"}
    code = f"import sys, resjax; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_another_process_and_seed_find_what_was_compiled(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    programs = []
    for seed in (0, 1):
        words = ["train", *SMALL, f"--config.seed={seed}", f"--workdir={tmp_path / str(seed)}"]
        command = [sys.executable, "-m", "resjax.cli", *words]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        programs.append({path.name for path in tmp_path.glob("cache/resjax/compiled/*/*-cache")})
    assert len(programs[0]) >= 3  # initial values, training step, evaluation
    assert programs[0] == programs[1]


@pytest.mark.slow
def test_ctrl_c_ends_at_once_with_a_line_that_says_how_to_go_on(tmp_path):
    # A shell starts what it runs in the background with SIGINT ignored, and that is inherited.
    main = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from resjax.cli import command; command()"
    )
    words = [sys.executable, "-c", main, "sweep", f"--config={EXPERIMENT}"]
    process = subprocess.Popen(
        [*words, f"--workdir={tmp_path}", "--config.model.width=3"],
        stderr=subprocess.PIPE, text=True, env=os.environ | {"JAX_COMPILATION_CACHE_DIR": ""},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/config.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.5)  # while it compiles
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    _, error = process.communicate(timeout=30)
    assert time.monotonic() - sent < 5
    assert process.returncode == 130
    assert "interrupted; finished runs are kept, go on with: resjax sweep --config=" in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("*/result.json"))
