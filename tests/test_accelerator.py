"""The benchmark of accelerators works where there is none, with few packages, and never stops."""

import importlib.util
import json
import time

import pytest

from tests.benchmarks.accelerator import LEAST_SECONDS, OF_A_SWEEP, SECONDS, main

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
@pytest.mark.usefixtures("lacking")
def test_it_measures_on_simulated_devices_without_packages_that_it_does_not_need(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    main([f"--out={tmp_path / 'out'}", "--small", "--factor=10", "checks", "seeds"])
    checks, seeds = (
        [row for row in results(tmp_path / "out") if row["part"] == part]
        for part in ("checks", "seeds")
    )
    assert [row["what"] for row in checks][:2] == ["ResNet-8, float32", "ResNet-8, bfloat16"]
    *compared, again = checks
    assert all(row["good"] for row in compared)
    assert again["same bits"]  # on a CPU
    single, half = (row["error"] for row in checks[:2])
    assert 0 < single < 1e-4 < half < 0.1
    assert [row["what"] for row in seeds] == ["ResNet-8, runs: 1", "ResNet-8, runs: 2"]
    assert all(row["images/s"] > 0 for row in seeds)
    table = (tmp_path / "out" / "table.md").read_text()
    assert all(row["what"] in table for row in checks + seeds)


def test_a_part_that_does_not_end_in_time_is_left_for_the_next(tmp_path):
    main([f"--out={tmp_path}", "--small", "--factor=0.001", "resnet50", "cifar"])
    assert [(row["part"], row["what"]) for row in results(tmp_path)] == [
        ("resnet50", "not finished"), ("cifar", "not finished"),
    ]  # fmt: skip
    assert "no more after 0 s" in (tmp_path / "table.md").read_text()


def test_a_part_that_lacks_a_package_is_not_begun_and_says_which(tmp_path, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "mpld3" else there(name)
    )
    main([f"--out={tmp_path}", "--small", "sweep"])
    assert [row["said"] for row in results(tmp_path)] == ["needs mpld3"]


def test_no_part_is_begun_after_nine_minutes(tmp_path, monkeypatch):
    clock = iter([0, SECONDS - LEAST_SECONDS + 1, SECONDS + 1])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    main([f"--out={tmp_path}", "--small", "cifar", "seeds"])
    assert [row["said"] for row in results(tmp_path)] == [
        "not begun: 14 s were left", "not begun: 0 s were left",
    ]  # fmt: skip
    assert SECONDS <= 9 * 60
