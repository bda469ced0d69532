"""The benchmark of accelerators works where there is none, with few packages, and never stops."""

import json

import pytest

from tests.benchmarks.accelerator import PARTS, main

LACKING = ("grain", "tensorflow_datasets", "array_record", "orbax", "simplejpeg", "tensorboardX")


def results(directory):
    return list(map(json.loads, (directory / "results.jsonl").read_text().splitlines()))


@pytest.fixture
def lacking(tmp_path, monkeypatch):
    """Packages that a machine with an accelerator may not have are not there for new processes."""
    for name in LACKING:
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
    assert all(row["good"] for row in checks)
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


def test_all_parts_together_take_under_nine_minutes():
    assert sum(limit for _, limit in PARTS.values()) <= 9 * 60
