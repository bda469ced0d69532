"""Runs as `train_and_evaluate` leaves them, without the training."""

import numpy as np

from resjax.config import default_config
from resjax.runs import disk, rundir

SHORTCUTS = ("none", "identity", "projection_all")


def write_run(workdir, name, error, epochs=3, **keys):
    """A finished run with a straight curve that ends at `error`; `model__depth` is a key."""
    directory = begin_run(workdir, name, **keys)
    for epoch in range(1, epochs + 1):
        train = 1 - epoch * (1 - error) / epochs
        disk.append_line(
            directory / "metrics.jsonl",
            {"step": epoch, "epoch": epoch, "train_error": train, "test_error": train + 0.01},
        )
    end_run(directory, result(error))
    return directory


def begin_run(workdir, name, **keys):
    """A run that was begun: its directory has a config and a manifest."""
    config = default_config()
    config.update_from_flattened_dict({key.replace("__", "."): v for key, v in keys.items()})
    directory = workdir / name
    directory.mkdir(parents=True)
    rundir.begin_run(directory, config)
    manifest = {
        "run": name,
        "versions": {"python": "3.11.7", "jax": "0.10.2"},
        "devices": {"platform": "cpu", "kind": "cpu", "count": 1},
        "data": {"name": config.data.name, "fingerprint": "f00d", "train": 1437, "test": 360},
    }
    disk.write_json(directory / "manifest.json", manifest)
    note(directory, "begun", counted=0.0, devices=1)
    return directory


def end_run(directory, content, seal=False):
    """Its result, whose seconds are all that it has spent; `seal` adds the digest of its curve."""
    seconds = content["seconds"]
    note(directory, "done", sum(seconds.values()), **seconds)
    if seal:
        rundir.write_result(directory, content)
    else:
        disk.write_json(directory / "result.json", content)


def note(directory, event, counted, **more):
    """Adds a line to the times of a run."""
    line = {"event": event, "compile": 0.0, "train": 0.0, "eval": 0.0, "counted": counted, **more}
    disk.append_line(directory / "timing.jsonl", line)


def result(error):
    return {
        "train_error": error, "train_loss": 2 * error, "test_error": error + 0.01, "test_loss": 0.5,
        "params": 1000, "multiply_adds": 10, "steps": 3,
        "seconds": {"compile": 1.0, "train": 2.0, "eval": 0.5},
    }  # fmt: skip


def fail_run(directory, reason="the training loss became nan"):
    (directory / "result.json").unlink(missing_ok=True)
    (directory / "error.txt").write_text(f"{reason}\n")
    return directory


def write_sweep(workdir, errors, **keys):
    """Runs of {(shortcut, depth): [error of each seed]}."""
    for (shortcut, depth), values in errors.items():
        for seed, error in enumerate(values):
            write_run(
                workdir, f"{shortcut}-{depth}-{seed}", error,
                model__shortcut=shortcut, model__depth=depth, seed=seed, **keys,
            )  # fmt: skip


LEVELS = {
    # Training error by depth, in the manner of the digits.
    "none": {8: 0.002, 20: 0.03, 56: 0.48},
    "identity": {8: 0.003, 20: 0.001, 56: 0.0},
    "projection": {8: 0.002, 20: 0.001, 56: 0.001},
    "projection_all": {8: 0.004, 20: 0.012, 56: 0.093},
}


def write_grid(
    workdir, seeds=3, depths=(8, 20, 56), shortcuts=tuple(LEVELS), epochs=15, suffix="", **keys
):
    """Runs of every shortcut, depth and seed, with errors and curves that look like real ones."""
    random = np.random.default_rng(0)
    for shortcut in shortcuts:
        for depth in depths:
            level = np.interp(depth, *zip(*LEVELS[shortcut].items(), strict=True))
            for seed in range(seeds):
                final = round(1437 * np.clip(level * random.lognormal(0, 0.25), 0, 0.9)) / 1437
                _write_smooth_run(
                    workdir, f"{shortcut}-{depth}-seed{seed}{suffix}", final, epochs, random,
                    model__shortcut=shortcut, model__depth=depth, seed=seed, **keys,
                )  # fmt: skip


def _write_smooth_run(workdir, name, final, epochs, random, **keys):
    directory = begin_run(workdir, name, **keys)
    slowness = 1.5 + keys["model__depth"] / 25
    for epoch in range(1, epochs + 1):
        left = np.exp(-epoch / slowness) * random.lognormal(0, 0.15)
        error = min(0.9, final + (0.9 - final) * left * (epoch < epochs))
        test = min(0.9, error + 0.025 + 0.004 * random.standard_normal())
        line = {"step": 23 * epoch, "epoch": epoch, "train_error": error, "test_error": test}
        losses = {"train_loss": 0.002 + 2.7 * error, "test_loss": 0.05 + 3 * test}
        disk.append_line(directory / "metrics.jsonl", line | losses)
    depth = keys["model__depth"]
    end_run(
        directory,
        result(final) | {
            "train_loss": 0.002 + 2.7 * final, "test_error": round(360 * test) / 360,
            "params": 19074 + 4000 * (depth - 8), "multiply_adds": 300_000 * depth,
            "test_loss": 0.05 + 3 * test,
            "seconds": {"compile": 2.0, "train": 0.25 * depth, "eval": 0.04 * depth},
        },
        seal=True,
    )  # fmt: skip
