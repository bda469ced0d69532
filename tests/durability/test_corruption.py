"""Whatever becomes of the files of a run, it ends with the right result or is refused in a line."""

import random
import shutil

import pytest

from resjax.config import ConfigError, default_config
from resjax.runs import checkpoint, disk, doctor, rundir
from resjax.runs.loop import train_and_evaluate
from tests.durability.attempts import TINY

CORRUPTIONS = 200


def truncate(content, chance):
    return content[: chance.randrange(len(content))] if content else content


def flip(content, chance):
    if not content:
        return content
    place = chance.randrange(len(content))
    changed = content[place] ^ (1 << chance.randrange(8))
    return content[:place] + bytes([changed]) + content[place + 1 :]


def cut_out(content, chance):
    start = chance.randrange(len(content) or 1)
    return content[:start] + content[start + chance.randrange(1, 200) :]


def corrupt(run, chance):
    """Changes or removes one file of a run; what was done to which."""
    files = sorted(path for path in run.rglob("*") if path.is_file())
    path, how = chance.choice(files), chance.choice([truncate, flip, cut_out, None])
    if how is None:
        path.unlink()
    else:
        path.write_bytes(how(path.read_bytes(), chance))
    return f"{getattr(how, '__name__', 'remove')} {path.relative_to(run)}"


def outcome(run):
    result = disk.read_json(run / "result.json")
    del result["seconds"]
    return result, rundir.read_metrics(run)


@pytest.fixture(scope="module")
def config():
    config = default_config()
    keys = {"train.duration": "20 steps", "eval.every": "10 steps"}
    config.update_from_flattened_dict(TINY | keys)
    return config


@pytest.fixture(scope="module")
def runs(tmp_path_factory, config):
    """A run that is done, and the same one with two checkpoints and without its end."""
    directory = tmp_path_factory.mktemp("runs")
    done, cut = directory / "done", directory / "cut"
    train_and_evaluate(config, done)
    often = config.copy_and_resolve_references()
    often.checkpoint.seconds = 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resjax.runs.loop.SECONDS_BETWEEN_REPORTS", -1.0)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(often, cut, stop_at(15))
    assert len(checkpoint.found(cut)) == 2
    return {"done": done, "cut": cut}


def stop_at(step):
    def observe(progress):
        if progress.step >= step and progress.phase == "training":
            raise KeyboardInterrupt

    return observe


@pytest.mark.slow
def test_200_corruptions_end_with_the_right_result_or_a_line(config, runs, tmp_path):
    expected = outcome(runs["done"])
    chance, refused, recovered = random.Random(3), 0, 0
    for number in range(CORRUPTIONS):
        kind = chance.choice(["done", "cut"])
        run = tmp_path / str(number) / "run"
        shutil.copytree(runs[kind], run)
        what = f"{kind}: {corrupt(run, chance)}"
        doctor.examine_all(run.parent)
        error = None
        try:
            train_and_evaluate(config, run)
            assert outcome(run) == expected, what
            recovered += 1
        except ConfigError as refusal:
            error, refused = str(refusal), refused + 1
        if error is not None:
            assert "\n" not in error, what
            assert ";" in error, what  # the remedy
            if "resjax doctor" in error:
                assert doctor.examine(run).advice, what
        shutil.rmtree(run.parent)
    assert recovered > CORRUPTIONS / 2
    assert refused > 5
