"""Runs that differ in their seed alone, in one program: each is as it would be alone."""

import shutil

import jax
import numpy as np
import pytest

from resjax.config import ConfigError
from resjax.ops.filled import in_packs
from resjax.ops.platform import traced_for
from resjax.process import WORKERS
from resjax.runs import checkpoint, claims, disk, loop, rundir
from resjax.runs.loop import train_and_evaluate
from resjax.runs.summary import read_summary
from resjax.runs.together import groups_of, train_side_by_side
from resjax.runs.weights import read_weights
from resjax.training import programs
from resjax.training.feeds import make_feed
from resjax.training.network import Network
from resjax.training.plan import make_plan
from resjax.training.seeds import FeedSideBySide, side_by_side, split_runs, stack_runs
from resjax.training.state import create_state
from tests.durability.test_kill import assert_same_end

SEEDS = (0, 5, 2)

RANDOM = {
    "model.shortcut": "dropout", "model.stochastic_depth": 0.4, "data.pad": 1, "data.flip": True,
}  # fmt: skip


def trained(config, seeds, steps=20):
    """The states of the lanes after some steps, and what the clean evaluations of them found."""
    plan = make_plan(config)
    options = plan.image_shape, config.train.ema_decay
    drawn = [create_state(plan.model, plan.optimizer, seed, *options) for seed in seeds]
    if len(seeds) > 1:
        plan = side_by_side(plan, seeds)
        state, feed = plan.parallel.whole(stack_runs(drawn)), FeedSideBySide(plan)
    else:
        state, feed = plan.parallel.whole(drawn[0]), make_feed(plan)
    network = Network(plan, plan.model, state, feed)
    for step in range(0, steps, plan.steps_per_call):
        end = min(step + plan.steps_per_call, steps)
        state = network.steps(state, *network.arguments(step, end))
    found = [network.evaluate(state, steps), network.compare_statistics(state, steps)]
    if len(seeds) > 1:
        return split_runs(state, len(seeds)), split_runs(found, len(seeds))
    return [state], [found]


def assert_equal(got, expected):
    """Every array of two trees, relative to its largest element."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(expected)
    for (path, own), other in zip(leaves, jax.tree.leaves(got), strict=True):
        scale = np.abs(own).max()
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(other, own, 0, 1e-9 * scale, err_msg=name)


def assert_seeds_are_what_they_are_alone(tiny):
    """In float64: parameters, statistics, momentum, metrics and evaluations."""
    with jax.enable_x64(True):
        tiny.model.dtype = "float64"
        states, found = trained(tiny, SEEDS)
        for seed, state, values in zip(SEEDS, states, found, strict=True):
            tiny.seed = seed
            [alone], [expected] = trained(tiny, (seed,))
            assert_equal(state, alone)
            assert_equal(values, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        RANDOM | {"train.ema_decay": 0.9},
        {"train.steps_per_call": 7, "train.micro_batches": 2, "norm.examples": 25,
         "eval.precise_batches": 2, "model.shortcut": "projection_all"},
        RANDOM | {"model.conv": "xla"},
        {"optim.name": "lars", "train.on_nan": "skip", "norm.kind": "none"},
        {"train.parallel": "pmap", "data.flip": True},
        {"optim.name": "adamw", "optim.clip_norm": 0.5, "data.mixup": 0.4, "data.cutmix": 1.0,
         "eval.precise_batches": 2},
    ],
    ids=["random", "precise", "xla", "lars", "pmap", "modern"],
)  # fmt: skip
def test_every_seed_is_after_20_steps_what_it_is_alone(tiny, keys):
    tiny.update_from_flattened_dict(keys)
    assert_seeds_are_what_they_are_alone(tiny)


@pytest.fixture
def traced_anew():
    """No program is shared that was traced for another platform."""
    programs._transformed.cache_clear()
    yield
    programs._transformed.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("traced_anew")
def test_on_a_gpu_too_though_its_convolutions_are_those_of_packs(tiny, monkeypatch):
    tiny.update_from_flattened_dict({"model.depth": 11, "model.block": "bottleneck"})
    packed = []
    monkeypatch.setattr(
        "resjax.ops.conv.in_packs", lambda *given: packed.append(given[0]) or in_packs(*given)
    )
    with traced_for("gpu"):
        assert_seeds_are_what_they_are_alone(tiny)
    assert {"forward", "input_gradient", "kernel_gradient"} == set(packed)


# -------------------------------------------------------------------------------------- whole runs


def group(tiny, tmp_path, seeds=SEEDS):
    """{directory: config} of runs that differ in their seed."""
    runs = {}
    for seed in seeds:
        config = tiny.copy_and_resolve_references()
        config.seed, config.train.steps_per_call = seed, 4
        runs[tmp_path / str(seed)] = config
    return runs


def unobserved(directory, progress):
    pass


def names(run):
    return {path.name.partition(".17")[0] for path in run.iterdir()}


def assert_same_ends(runs, expected):
    """The directories of runs, with the bits and the records of others."""
    for run in runs:
        assert_same_end(run, expected / run.name)
        assert names(run) == names(expected / run.name)


@pytest.mark.slow
@pytest.mark.usefixtures("unoptimised")
def test_a_group_leaves_what_its_runs_would_leave_alone(tiny, tmp_path):
    """The same files with the same keys, and in float64 the same numbers."""
    tiny.update_from_flattened_dict(RANDOM | {"eval.select": "best", "data.train": "train[:90%]"})
    tiny.data.validation, tiny.log.histograms = "train[90%:]", True
    tiny.eval.probes, tiny.eval.probe_examples = "gradients,branches", 64
    with jax.enable_x64(True):
        tiny.model.dtype = "float64"
        runs = group(tiny, tmp_path)
        summaries = train_side_by_side(runs, unobserved)
        alone = train_and_evaluate(runs[tmp_path / "2"], tmp_path / "alone")
    run = tmp_path / "2"
    assert names(run) == names(tmp_path / "alone")
    assert summaries[run].best_step == alone.best_step
    for name in ("metrics.jsonl", "timing.jsonl"):
        got, expected = (disk.read_lines(path / name) for path in (run, tmp_path / "alone"))
        assert [line.keys() for line in got] == [line.keys() for line in expected]
        if name == "metrics.jsonl":
            for line, other in zip(got, expected, strict=True):
                assert line == pytest.approx(other, rel=1e-9)
    for got, expected in zip(
        *(disk.read_lines(path / "probes.jsonl") for path in (run, tmp_path / "alone")),
        strict=True,
    ):
        assert got.keys() == expected.keys()
        for probe in ("gradients", "branches"):
            assert_equal(
                *({name: np.array(array) for name, array in line[probe].items()}
                  for line in (got, expected))
            )  # fmt: skip
    for name in ("config.json", "manifest.json", "result.json"):
        got, expected = (disk.read_json(path / name) for path in (run, tmp_path / "alone"))
        assert got.keys() == expected.keys()
    assert disk.read_json(run / "manifest.json")["execution"]["side_by_side"] == list(SEEDS)
    got, expected = (read_weights(path).variables for path in (run, tmp_path / "alone"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-6, 1e-6), got, expected)


def stopped_at(step, runs, monkeypatch):
    """A group that was ended after some steps, with checkpoints of each step."""
    monkeypatch.setattr("resjax.runs.loop.SECONDS_BETWEEN_REPORTS", -1.0)

    def observe(directory, progress):
        if progress.step >= step and progress.phase == "training":
            raise KeyboardInterrupt

    often = {run: config.copy_and_resolve_references() for run, config in runs.items()}
    for config in often.values():
        config.checkpoint.seconds = 0.0
    with pytest.raises(KeyboardInterrupt):
        train_side_by_side(often, observe)


@pytest.mark.slow
def test_a_group_goes_on_with_the_same_bits(tiny, tmp_path, monkeypatch):
    train_side_by_side(group(tiny, tmp_path / "whole"), unobserved)
    runs = group(tiny, tmp_path / "cut")
    stopped_at(13, runs, monkeypatch)
    train_side_by_side(runs, unobserved)
    assert_same_ends(runs, tmp_path / "whole")


@pytest.mark.slow
def test_a_group_that_ends_between_the_probes_of_two_runs_has_a_line_for_each_evaluation(
    tiny, tmp_path, monkeypatch
):
    tiny.eval.probes, tiny.eval.probe_examples = "branches", 64
    train_side_by_side(group(tiny, tmp_path / "whole"), unobserved)
    runs, append = group(tiny, tmp_path / "cut"), disk.append_line

    def append_or_end(path, line):
        if path == tmp_path / "cut" / "5" / "probes.jsonl" and line["step"] == 20:
            raise KeyboardInterrupt
        append(path, line)

    monkeypatch.setattr(disk, "append_line", append_or_end)
    for config in runs.values():
        config.checkpoint.seconds = 0.0
    with pytest.raises(KeyboardInterrupt):
        train_side_by_side(runs, unobserved)
    monkeypatch.setattr(disk, "append_line", append)
    steps = [[line["step"] for line in disk.read_lines(run / "probes.jsonl")] for run in runs]
    assert steps == [[10, 20], [10], [10]]
    train_side_by_side(runs, unobserved)
    assert_same_ends(runs, tmp_path / "whole")
    for run in runs:
        files = [
            path / run.name / "probes.jsonl" for path in (tmp_path / "cut", tmp_path / "whole")
        ]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_members_of_a_group_go_on_with_the_same_bits_whoever_else_does(tiny, tmp_path, monkeypatch):
    """One has lost its last checkpoint, one all of them, and one is run by its own command."""
    seeds = (*SEEDS, 9)
    train_side_by_side(group(tiny, tmp_path / "whole", seeds), unobserved)
    runs = group(tiny, tmp_path / "cut", seeds)
    stopped_at(13, runs, monkeypatch)
    first, second, third, fourth = runs
    shutil.rmtree(checkpoint.found(first)[0])
    shutil.rmtree(second / "checkpoints")
    notes = []
    train_and_evaluate(runs[fourth], fourth, lambda progress: notes.append(progress.note))
    assert any("3 of the 4 runs that were begun together are not trained" in str(n) for n in notes)
    steps = {}
    ended = train_side_by_side(
        runs, lambda run, told: steps.setdefault(run, told.step) if told.phase == "training" else 0
    )
    assert set(ended) == {first, third, fourth}
    assert steps == {first: 14, third: 14}  # a call after the evaluation of step 10, done again
    assert set(train_side_by_side({second: runs[second]}, unobserved)) == {second}
    assert_same_ends(runs, tmp_path / "whole")


@pytest.mark.slow
def test_a_run_of_a_group_goes_on_alone_if_that_is_asked_for(tiny, tmp_path, monkeypatch):
    runs = group(tiny, tmp_path)
    stopped_at(13, runs, monkeypatch)
    [run, *_], notes = runs, []
    runs[run].train.side_by_side = 1
    train_and_evaluate(runs[run], run, lambda progress: notes.append(progress.note))
    assert "the bits may be others, since side_by_side is [0, 5, 2] before, None now" in str(notes)
    assert rundir.run_state(run) == rundir.DONE


@pytest.mark.slow
@pytest.mark.usefixtures("traced_anew")
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_one_that_diverges_ends_alone_and_changes_nothing_in_the_others(
    tiny, tmp_path, monkeypatch, platform
):
    with traced_for(platform):
        train_side_by_side(group(tiny, tmp_path / "whole"), unobserved)

        def lost(model, optimizer, seed, *options):
            state = create_state(model, optimizer, seed, *options)
            factor = np.nan if seed == 5 else 1.0
            return state.replace(params=jax.tree.map(lambda leaf: leaf * factor, state.params))

        monkeypatch.setattr("resjax.training.initial.create_state", lost)
        runs = group(tiny, tmp_path / "cut")
        ended = train_side_by_side(runs, unobserved)
    assert [type(end).__name__ for end in ended.values()] == ["Summary", "Diverged", "Summary"]
    assert rundir.run_state(tmp_path / "cut" / "5") == rundir.FAILED
    assert "became nan between steps 1 and 10" in (tmp_path / "cut/5/error.txt").read_text()
    assert_same_ends([run for run in runs if run.name != "5"], tmp_path / "whole")


@pytest.mark.slow
def test_a_crash_ends_the_runs_of_the_program_and_no_others(tiny, tmp_path, monkeypatch):
    """One is done, one is another process's, and one cannot go on with the others."""
    runs = group(tiny, tmp_path, (*SEEDS, 9, 4))
    stopped_at(13, runs, monkeypatch)
    first, second, done, others, later = runs
    shutil.rmtree(later / "checkpoints")
    train_and_evaluate(runs[done], done)

    def crash(*_):
        raise ZeroDivisionError("in the middle")

    monkeypatch.setattr("resjax.runs.loop._train", crash)
    with claims.claimed(others):
        ended = train_side_by_side(runs, unobserved)
    kinds = {run: type(end).__name__ for run, end in ended.items()}
    assert kinds == {first: "Crashed", second: "Crashed", done: "Summary", others: "Claimed"}
    states = [rundir.run_state(run) for run in runs]
    assert states == [*2 * [rundir.FAILED], rundir.DONE, *2 * [rundir.UNFINISHED]]
    assert rundir.read_failure(first).startswith("ZeroDivisionError: in the middle\n\nTraceback")


@pytest.mark.slow
def test_a_run_that_has_diverged_before_a_crash_keeps_its_reason(tiny, tmp_path, monkeypatch):
    def lost(model, optimizer, seed, *options):
        state = create_state(model, optimizer, seed, *options)
        factor = np.nan if seed == 5 else 1.0
        return state.replace(params=jax.tree.map(lambda leaf: leaf * factor, state.params))

    def train(run, network, keeper, stop):
        if stop == 20:
            raise ZeroDivisionError("in the middle")
        loop_train(run, network, keeper, stop)

    loop_train = loop._train
    monkeypatch.setattr("resjax.training.initial.create_state", lost)
    monkeypatch.setattr(loop, "_train", train)
    ended = train_side_by_side(group(tiny, tmp_path), unobserved)
    assert [type(end).__name__ for end in ended.values()] == ["Crashed", "Diverged", "Crashed"]
    assert "became nan" in rundir.read_failure(tmp_path / "5")
    assert rundir.read_failure(tmp_path / "0").startswith("ZeroDivisionError")


@pytest.mark.slow
def test_a_crash_between_two_results_ends_the_runs_without_one(tiny, tmp_path, monkeypatch):
    write = rundir.write_result

    def write_one(directory, result):
        if directory.name != "0":
            raise ZeroDivisionError("between two results")
        write(directory, result)

    monkeypatch.setattr(rundir, "write_result", write_one)
    runs = group(tiny, tmp_path)
    ended = train_side_by_side(runs, unobserved)
    assert [type(end).__name__ for end in ended.values()] == ["Summary", "Crashed", "Crashed"]
    assert ended[tmp_path / "0"] == read_summary(tmp_path / "0")
    assert [(run / "error.txt").exists() for run in runs] == [False, True, True]


@pytest.mark.slow
def test_directories_of_other_processes_are_left_out(tiny, tmp_path):
    runs = group(tiny, tmp_path)
    other = tmp_path / "5"
    other.mkdir()
    with claims.claimed(other):
        ended = train_side_by_side(runs, unobserved)
    assert [type(end).__name__ for end in ended.values()] == ["Summary", "Claimed", "Summary"]
    manifest = disk.read_json(tmp_path / "0" / "manifest.json")
    assert manifest["execution"]["side_by_side"] == [0, 2]


@pytest.mark.slow
@pytest.mark.parametrize("start", [False, True], ids=["grown", "from weights and grown"])
def test_groups_grow_as_their_runs_would(tiny, tmp_path, start):
    tiny.model.shortcut = "none"
    with jax.enable_x64(True):
        tiny.model.dtype = "float64"
        if start:
            train_and_evaluate(tiny, tmp_path / "shallow")
            tiny.train.init_from = str(tmp_path / "shallow")
        tiny.model.depth = 14
        tiny.train.grow_from, tiny.train.grow_at = 8, "0 steps" if start else "10 steps"
        runs = group(tiny, tmp_path)
        train_side_by_side(runs, unobserved)
        for run, config in runs.items():
            train_and_evaluate(config, tmp_path / f"alone{run.name}")
            got, expected = (
                disk.read_lines(path / "metrics.jsonl")
                for path in (run, tmp_path / f"alone{run.name}")
            )
            assert got == [pytest.approx(line, rel=1e-9) for line in expected]


# ------------------------------------------------------------------------------ what is a group


def test_new_groups_are_of_what_was_not_begun_and_old_ones_stay(tiny, tmp_path):
    tiny.train.side_by_side = 2
    runs = group(tiny, tmp_path, range(7))
    for seed, together in ((1, [1, 3]), (4, None)):
        directory = tmp_path / str(seed)
        directory.mkdir()
        rundir.begin_run(directory, runs[directory])
        disk.write_json(directory / "manifest.json", {"execution": {"side_by_side": together}})
    found = [[int(run.name) for run in runs] for runs in groups_of(runs)]
    assert found == [[0, 2], [1, 3], [4], [5, 6]]
    for config in runs.values():
        config.train.side_by_side = 1
    assert [len(one) for one in groups_of(runs)] == [1] * 7


@pytest.mark.parametrize(
    ("processes", "asked", "sizes"),
    [("", 0, [4, 5]), ("1", 0, [4, 5]), ("2", 0, [4, 5]), ("4", 0, [2, 2, 3, 2]),
     ("20", 0, [1] * 9), ("4", 6, [6, 3])],
)  # fmt: skip
def test_processes_that_share_the_runs_have_a_group_each_unless_a_number_is_asked_for(
    tiny, tmp_path, monkeypatch, processes, asked, sizes
):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv(WORKERS, processes)
    tiny.train.side_by_side = asked
    runs = group(tiny, tmp_path, range(9))
    assert [len(one) for one in groups_of(runs)] == sizes
    if not asked:  # the other groups stay the same when one has ended
        first, *others = groups_of(runs)
        for run in first:
            run.mkdir()
            (run / "config.json").write_text("{}")
            (run / "result.json").write_text("{}")
        assert groups_of(runs) == [*({run: first[run]} for run in first), *others]


def test_networks_of_two_kinds_are_never_one_group(tiny, tmp_path):
    tiny.train.side_by_side = 8
    runs = group(tiny, tmp_path)
    runs[tmp_path / "5"].model.shortcut = "none"
    assert [[run.name for run in one] for one in groups_of(runs)] == [["0", "2"], ["5"]]


@pytest.mark.parametrize(("platform", "asked", "most"), [
    ("cpu", 0, 1), ("cpu", 4, 4), ("gpu", 0, 8), ("gpu", 1, 1), ("gpu", 3, 3), ("tpu", 0, 1),
    ("unmeasured", 0, 1),
])  # fmt: skip
def test_the_platform_chooses_if_the_config_does_not(tiny, monkeypatch, platform, asked, most):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    tiny.train.side_by_side = asked
    assert make_plan(tiny).side_by_side == most


@pytest.mark.parametrize(
    ("keys", "most"),
    [
        ({"model.width": 16, "model.depth": 110, "train.batch_size": 128}, 8),
        ({"model.width": 17}, 1),
        ({"model.depth": 1202}, 1),
        ({"train.batch_size": 129}, 1),
        ({"train.batch_size": 129, "train.side_by_side": 8}, 8),
    ],
    ids=str,
)
def test_what_fills_a_gpu_is_side_by_side_only_if_that_is_asked_for(tiny, monkeypatch, keys, most):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    tiny.data.name = "fake:32x32x3:10:640"
    tiny.update_from_flattened_dict(keys)
    assert make_plan(tiny).side_by_side == most


def test_what_cannot_be_side_by_side_is_refused_if_it_is_asked_for(tiny, monkeypatch):
    monkeypatch.setattr("resjax.training.refusals.require", lambda extra, what: None)
    tiny.log.writers = ("wandb",)
    assert make_plan(tiny).alone
    tiny.train.side_by_side = 4
    with pytest.raises(ConfigError, match=r"side_by_side=4 cannot be, since log.writers=wandb"):
        make_plan(tiny)
