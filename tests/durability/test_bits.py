"""One bit of a file of a run is not as it was written: that is refused, or without effect."""

import collections
import dataclasses
import fnmatch
import functools
import random
import shutil

import numpy as np
import pytest

from resjax.config import ConfigError, default_config, flatten
from resjax.interop.importing import Imported, read_any, write_run
from resjax.models.build import build_model
from resjax.models.trace import variable_shapes
from resjax.report.runs import read_runs
from resjax.runs import (
    checkpoint,
    claims,
    disk,
    doctor,
    left_out,
    matching,
    probing,
    rundir,
    weights,
)
from resjax.runs.group import seeds_begun_with
from resjax.runs.ledger import read_ledger
from resjax.runs.loop import train_and_evaluate
from resjax.runs.status import look
from resjax.runs.summary import read_summary
from resjax.training.plan import make_plan
from tests.durability.attempts import TINY
from tests.durability.test_corruption import stop_at

FLIPS = 600
"""Of every file."""

FILES = {
    "done": (
        "config.json", "manifest.json", "metrics.jsonl", "timing.jsonl", "result.json",
        "probes.jsonl", "left_out.json", "weights.safetensors",
    ),
    "cut": (
        "config.json", "manifest.json", "metrics.jsonl", "timing.jsonl", "progress.json",
        "probes.jsonl", "left_out.json", "checkpoints",
    ),
    "beside": ("config.json", "manifest.json"),
    "imported": ("config.json", "imported.json", "weights.safetensors"),
    "claimed": ("claim.json",),
}  # fmt: skip
"""Of each kind of run, what the reading of it depends on; of a directory, all files in it."""

SHOWN = ("events.out.tfevents.*", "error.txt")
"""What no command trusts: TensorBoard reads the one, and people the other."""

KEYS = {"train.duration": "20 steps", "eval.every": "10 steps", "eval.probes": "responses"}


def config_of(keys):
    config = default_config()
    config.update_from_flattened_dict(TINY | KEYS | keys)
    return config


def make_runs(directory):
    """{kind: run}: done, cut with two checkpoints and without its end, begun beside another, of
    another machine that is at work, and imported; images were left out of each.
    """
    runs = {kind: directory / kind for kind in FILES}
    train_and_evaluate(config_of({}), runs["done"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resjax.runs.loop.SECONDS_BETWEEN_REPORTS", -1.0)
        patch.setattr("resjax.runs.journal.SECONDS_BETWEEN_PROGRESS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(config_of({"checkpoint.seconds": 0.0}), runs["cut"], stop_at(15))
    found = checkpoint.found(runs["cut"])
    assert len(found) == 2
    read = weights.read_weights(runs["done"])
    imported = Imported(read, "torchvision", 62, ("a note",))
    write_run(runs["imported"], imported, runs["done"] / "weights.safetensors")
    for kind in ("done", "cut", "imported"):
        left_out.record_left_out(runs[kind], {"train": {"ant/3.jpg": "it is cut off"}})
    for kind in ("beside", "claimed"):
        shutil.copytree(runs["cut"], runs[kind])
    told = [path.relative_to(runs["cut"]) / "checkpoint.json" for path in found]
    for path in (runs["beside"] / name for name in ("manifest.json", *told)):
        content = disk.read_json(path)
        content["execution"]["side_by_side"] = [0, 1]
        disk.write_json(path, content)
    claim = {"host": "far", "boot": "another", "pid": 7, "token": "theirs"}
    disk.write_json(runs["claimed"] / "claim.json", claim)
    return runs


def flips(path, number, seed=0):
    """Flips one bit after the other in a file, and puts each back."""
    whole, chance = path.read_bytes(), random.Random(f"{path.name} {seed}")
    bits = range(8 * len(whole))
    try:
        for bit in chance.sample(bits, min(number, len(bits))):
            changed = bytearray(whole)
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            yield bit
    finally:
        path.write_bytes(whole)


# ------------------------------------------------------------------------ what trusts a file, by it


def status(run):
    found = look(run)
    if found.why:
        raise ConfigError(found.why)
    return found


def report(run):
    done, missing = read_runs(run)
    if unknown := [each.name for each in (*done, *missing) if each.ledger is None]:
        raise ConfigError(f"what {unknown} cost is not known")
    return done, missing


def cost(run):
    if (ledger := read_ledger(run)) is None:
        raise ConfigError("what it cost is not known")
    return ledger


def examined(run):
    found = doctor.examine(run)
    if found.state == doctor.DAMAGED or found.damaged or "does not tell" in found.why:
        raise ConfigError(found.why)
    return dataclasses.replace(found, age=None, size=0)


def network(read):
    about, tensors = read.about, weights.paths(read.variables)
    return (
        flatten(about.config), about.class_names, about.image_shape, about.batches,
        {name: np.asarray(tensor).tobytes() for name, tensor in tensors.items()},
        read.mean.tobytes(), read.deviation.tobytes(),
    )  # fmt: skip


@functools.cache
def shapes():
    found = variable_shapes(build_model(config_of({}), classes=10), (8, 8, 1))
    return {name: leaf.shape for name, leaf in weights.paths(found).items()}


def header(run):
    """As a run looks at it that is to start from these weights."""
    found = weights.read_header(run)
    matching.refuse_other_tensors(found.shapes, shapes(), "it", "fetch it again")
    about = dataclasses.replace(found.about, config=None)
    return flatten(found.about.config), about, found.shapes


def checkpoints(run):
    return [checkpoint.verified(path) for path in checkpoint.found(run)]


def newest(run):
    path, facts, complaints = checkpoint.newest(run)
    if complaints:
        raise ConfigError(complaints[0])
    return path, facts


@functools.cache
def plan():
    return make_plan(config_of({"checkpoint.seconds": 0.0}))


def probed(run):
    return probing._checkpoint(run, plan(), None)


def lines(name):
    return lambda run: disk.read_lines(run / name)


def owner(run):
    found = claims.owner(run)
    if found and "does not tell" in found:
        raise ConfigError(found)
    return found


def held(run):
    return claims.Claim(claims.ClaimFile(run), "theirs").renew()


def taken(run):
    """Without locks, as on a storage that has none."""
    claims.Claim(claims.ClaimFile(run), "ours").take(locked=False)
    return disk.read_json(run / "claim.json")


def same_config(run):
    rundir.refuse_other_config(run, config_of({}))


TRUST = {
    "config.json": (rundir.read_config, same_config, seeds_begun_with, status, report),
    "manifest.json": (seeds_begun_with, report),
    "metrics.jsonl": (lines("metrics.jsonl"), report),
    "timing.jsonl": (cost, status, report),
    "progress.json": (status,),
    "result.json": (read_summary, status, report),
    "probes.jsonl": (lines("probes.jsonl"),),
    "left_out.json": (left_out.number_left_out,),
    "imported.json": (),
    "weights.safetensors": (
        lambda run: network(weights.read_weights(run)),
        lambda run: network(read_any(run / "weights.safetensors").weights),
        header,
    ),
    "claim.json": (owner, held, taken),
    "checkpoints": (checkpoints, newest, probed),
}
"""What reads each file of a run, or those in a directory; it raises ConfigError if it refuses."""


def outcomes(run, name, number, readers):
    """How often a flip was refused, had no effect or another one; and the latter ones."""
    path = run / name
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    path.touch()  # a claim is stale after a while
    intact = {read: read_or_refused(read, run) for read in readers}
    counts, wrong = collections.Counter(), []
    for file in files:
        for bit in flips(file, number):
            found = {read: read_or_refused(read, run) for read in readers}
            others = [
                f"{file.relative_to(run)}, bit {bit}: {read.__name__}"
                for read, outcome in found.items()
                if outcome not in (intact[read], REFUSED)
            ]
            wrong += others
            refused = REFUSED in found.values()
            counts["another effect" if others else "refused" if refused else "no effect"] += 1
    assert {read: read_or_refused(read, run) for read in readers} == intact
    return counts, wrong


REFUSED = "refused"


def read_or_refused(read, run):
    try:
        return read(run)
    except ConfigError:
        return REFUSED


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("runs"))


ALL = [(kind, name) for kind, names in FILES.items() for name in names]


EXCUSED = {("cut", "manifest.json"), ("beside", "manifest.json")}
"""Whose loss has no effect: a checkpoint says the same."""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), ALL)
def test_600_single_bits_of_a_file_are_refused_or_without_effect(runs, kind, name):
    """Each alone, by all that reads the file; of the many files of a checkpoint each has fewer."""
    number = FLIPS if (runs[kind] / name).is_file() else FLIPS // 10
    counts, wrong = outcomes(runs[kind], name, number, TRUST[name])
    assert not wrong
    if TRUST[name] and (kind, name) not in EXCUSED:
        assert counts["refused"] > 0.9 * counts.total()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_doctor_sees_single_bits(runs, kind, name):
    """Of what says how far a run is it makes nothing."""
    number = FLIPS // 20 if (runs[kind] / name).is_file() else 2
    counts, wrong = outcomes(runs[kind], name, number, (examined,))
    assert not wrong
    if name != "progress.json":
        assert counts["refused"] > 0.9 * counts.total()


@pytest.mark.slow
def test_every_file_of_a_run_is_among_them(runs):
    for kind in ("done", "cut"):
        names = {path.name for path in runs[kind].iterdir()}
        others = {name for name in names if not any(fnmatch.fnmatch(name, p) for p in SHOWN)}
        assert others <= {*FILES["done"], *FILES["cut"]}
    for kind, name in ALL:
        assert (runs[kind] / name).exists()
