"""The benchmark of accelerators works where there is none, with few packages, and never stops."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import jax
import pytest

from tests.benchmarks import accelerator, accelerator_checks
from tests.benchmarks.accelerator import (
    LEAST_SECONDS,
    OF_A_SWEEP,
    PARTS,
    ROOT,
    SECONDS,
    do,
    main,
    share_of_first,
    table,
)
from tests.benchmarks.accelerator_kernels import in_kernels, trace
from tests.benchmarks.accelerator_speed import cifar_net, measured, seeds, shapes

LACKING = (
    "grain", "tensorflow_datasets", "array_record", "simplejpeg", "cv2", "safetensors",
    "argcomplete", *OF_A_SWEEP,
)  # fmt: skip


def results(directory):
    return list(map(json.loads, (directory / "results.jsonl").read_text().splitlines()))


@pytest.fixture
def lacking(tmp_path, monkeypatch):
    """Packages that a machine with an accelerator may not have are not there for new processes."""
    for name in {name.partition(".")[0] for name in LACKING}:
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError({name!r})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.slow
@pytest.mark.usefixtures("lacking", "unoptimised")
def test_it_checks_simulated_devices_without_packages_that_it_does_not_need(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    main([f"--out={tmp_path / 'out'}", "--small", "checks"])
    rows = results(tmp_path / "out")
    assert {row["device"] for row in rows} == {jax.devices()[0].device_kind}
    assert all(row["good"] for row in rows if "good" in row)
    single, half = (row["error"] for row in rows if "ResNet-8" in row["what"] and "error" in row)
    assert 0 < single < 1e-4 < half < 0.1
    assert [row["same bits"] for row in rows if "same bits" in row] == [True]  # on a CPU
    assert rows[-1]["what"] == "jit and pmap, devices: 2"
    text = (tmp_path / "out" / "table.md").read_text()
    assert all(text.count(f"| {row['what']} |") == 1 for row in rows)


def test_kernels_are_added_up_by_who_made_them(capsys):
    kernels = [
        ("sm90_xmma_wgrad_implicit_gemm", 3.0),
        ("loop_convert_fusion_7", 1.0),
        ("nvjet_sm90_tst_128x256", 2.0),
        ("gemm_fusion_dot_62", 0.5),
        ("loop_convert_fusion_7", 1.0),
    ]
    row = in_kernels("net", kernels, steps=2)
    assert row == {"what": "net", "kernels": 2.5, "in kernels ms": 3.75, "in products ms": 2.5}
    longest = json.loads(capsys.readouterr().out)["ms and number"]
    assert list(longest) == [kernels[0][0], "loop_convert_fusion_7", "nvjet_sm90_tst_128x256",
                             "gemm_fusion_dot_62"]  # fmt: skip
    assert longest["loop_convert_fusion_7"] == [1.0, 1.0]
    assert trace(lambda: None) == []  # without a GPU


def test_every_part_has_its_turn_whatever_those_before_it_take():
    assert sum(part.seconds for part in PARTS.values()) == SECONDS <= 9 * 60
    names, left, shares = list(PARTS), SECONDS - LEAST_SECONDS, {}  # which JAX took to begin
    while names:
        shares[names[0]] = share_of_first(names, left)
        left -= shares[names.pop(0)]
    assert left == pytest.approx(0)
    assert all(share > 0.97 * PARTS[name].seconds for name, share in shares.items())


def test_what_a_part_leaves_is_divided_among_those_after_it(monkeypatch):
    names = ["seeds", "variants", "sweep"]
    assert share_of_first(names, 0) == 0
    assert share_of_first(names[2:], 100) == pytest.approx(100)
    assert share_of_first(names[1:], 100) > share_of_first(names[1:], 60)
    monkeypatch.setattr(accelerator, "missing", lambda name: name == "variants")
    assert share_of_first(names[1:], 100) == 0  # it lacks a package
    assert share_of_first(["variants"], 100) == 0


def test_a_part_that_does_not_end_in_time_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(accelerator, "LEAST_SECONDS", 0)
    assert do("resnet50", tmp_path, True, 0.0, "cpu", "cpu") == "no more after 0 s"


def test_a_part_that_lacks_a_package_is_not_begun_and_says_which(tmp_path, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "mpld3" else there(name)
    )
    main([f"--out={tmp_path}", "--small", "sweep"])
    assert [row["said"] for row in results(tmp_path)] == ["needs mpld3"]


def test_no_part_is_begun_for_less_than_it_takes_to_start(tmp_path):
    main([f"--out={tmp_path}", "--small", f"--seconds={LEAST_SECONDS - 1}", "cifar", "seeds"])
    assert [row["said"].partition(":")[0] for row in results(tmp_path)] == ["not begun"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("part", ["flax", "sweep"])
def test_no_part_computes_on_the_cpu_for_a_device_that_is_not_there(tmp_path, monkeypatch, part):
    monkeypatch.setattr(accelerator, "find_device", lambda seconds: ["TPU v5e", "tpu,cpu"])
    main([f"--out={tmp_path}", "--small", part])
    [row] = results(tmp_path)
    assert (row["what"], row["said"]) == ("not finished", "exit code 1; see log.txt")
    assert "tpu" in (tmp_path / "log.txt").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("unoptimised")
def test_the_seconds_of_compilation_are_told_before_any_step_is_measured():
    with closing(measured("net", 0.0, cifar_net(8, small=True) | {"model__width": 2})) as rows:
        assert next(rows).keys() == {"what", "compile s"}


@pytest.mark.slow
@pytest.mark.usefixtures("unoptimised")
def test_seeds_side_by_side_are_compared_with_one_alone():
    alone, two = (row for row in seeds(small=True) if "images/s" in row)
    assert (alone["what"], two["what"]) == (
        "ResNet-8, float32, runs: 1",
        "ResNet-8, float32, runs: 2",
    )
    assert alone["of one alone"] == 1
    assert two["of one alone"] == two["images/s"] / alone["images/s"]


@pytest.mark.slow
@pytest.mark.usefixtures("unoptimised")
def test_a_sweep_tells_of_every_run_before_its_report(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")  # or kernels would be built for seconds
    *runs, report = shapes(small=True)
    assert [row["what"] for row in runs] == ["shapes, none-8", "shapes, identity-8"]
    assert all(row["device"] == jax.devices()[0].device_kind for row in runs)
    assert runs[0]["seconds"] < runs[1]["seconds"] < report["seconds"]


@pytest.mark.slow
def test_tests_are_counted_as_they_end_without_plugins_of_pytest(monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    *rows, last = accelerator_checks.tests(small=True)
    assert [row["passed"] for row in rows] == list(range(1, len(rows) + 1))
    assert last["good"]
    assert last["said"].startswith(f"{len(rows)} passed")


@pytest.mark.slow
def test_a_part_ends_with_its_children_where_the_benchmark_is_terminated(tmp_path):
    words = ["-m", "tests.benchmarks.accelerator", f"--out={tmp_path}", "--small", "sweep"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}  # by which they are found
    with subprocess.Popen([sys.executable, *words], cwd=ROOT, env=environment) as benchmark:
        while len(working := processes_that_name(tmp_path)) < 3:
            assert benchmark.poll() is None
            time.sleep(0.1)
        benchmark.terminate()
    assert benchmark.pid in working
    assert processes_that_name(tmp_path) == []


def processes_that_name(path):
    """Numbers of the processes whose arguments contain a path."""
    found = []
    for arguments in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            if str(path) in arguments.read_text(errors="replace"):
                found.append(int(arguments.parent.name))
    return found


def test_rows_of_one_thing_are_a_line_of_the_table_of_its_device():
    row = {"part": "flax", "device": "A", "what": "stock Flax", "after s": 1.0}
    text = table([row | {"compile s": 1.0}, row | {"step ms": 2.0}, row | {"device": "B"}])
    assert "| what | compile s | step ms |" in text
    assert "| stock Flax | 1 | 2 |" in text
    assert text.count("## flax") == 2
