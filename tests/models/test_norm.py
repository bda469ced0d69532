import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resjax.models.norm import BatchNorm, find_scope
from resjax.ops.norm import Scope
from tests.drawn import normal
from tests.models.compiled import quick
from tests.rounding import bound

pytestmark = pytest.mark.usefixtures("double")

SHAPES = [(16, 5), (4, 3, 3, 5)]


def close(ours, theirs):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-9, 1e-9), ours, theirs)


def norm_of(**options):
    return BatchNorm(dtype=jnp.float64, **options)


def variables_of(features, seed):
    draws = normal(seed, (4, features))
    return {
        "params": {"scale": draws[0], "bias": draws[1]},
        "batch_stats": {"mean": draws[2], "var": jnp.exp(draws[3])},
    }


@pytest.mark.slow
@settings(deadline=None, max_examples=6)
@given(
    shape=st.lists(st.integers(2, 6), min_size=2, max_size=4),
    momentum=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_equals_flax_in_training_and_evaluation(shape, momentum, seed):
    x = 3 * normal(seed, shape) + 1
    variables = variables_of(shape[-1], (seed + 1))
    ours = norm_of(momentum=momentum)
    flax = nn.BatchNorm(momentum=momentum, use_fast_variance=False)

    @quick
    def both(variables, x):
        mutable = ["batch_stats"]
        trained = (
            ours.apply(variables, x, train=True, mutable=mutable),
            flax.apply(variables, x, use_running_average=False, mutable=mutable),
        )
        evaluated = (
            ours.apply(variables, x, train=False),
            flax.apply(variables, x, use_running_average=True),
        )
        return trained, evaluated

    trained, evaluated = both(variables, x)
    close(*trained)
    close(*evaluated)


@pytest.mark.parametrize("shape", SHAPES)
def test_training_output_is_standardised(shape):
    x = 7 * normal(0, shape) - 3
    norm = norm_of()
    y, _ = norm.apply(norm.init(jax.random.key(0), x, False), x, True, mutable=["batch_stats"])
    axes = tuple(range(len(shape) - 1))
    close(y.mean(axes), 0)
    close(y.var(axes), x.var(axes) / (x.var(axes) + norm.epsilon))


def test_running_statistics_move_only_in_training():
    x = normal(0, (8, 5)) + 2
    norm = norm_of(momentum=0.75)
    variables = norm.init(jax.random.key(0), x, True)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], 0)
    _, evaluated = norm.apply(variables, x, False, mutable=["batch_stats"])
    np.testing.assert_array_equal(evaluated["batch_stats"]["mean"], 0)
    np.testing.assert_array_equal(evaluated["batch_stats"]["var"], 1)
    _, trained = norm.apply(variables, x, True, mutable=["batch_stats"])
    close(trained["batch_stats"]["mean"], 0.25 * np.mean(x, 0))
    close(trained["batch_stats"]["var"], 0.75 + 0.25 * np.var(x, 0))


def test_a_frozen_one_trains_as_it_evaluates_and_keeps_its_statistics():
    x, variables = normal(0, (4, 3, 3, 5)) + 2, variables_of(5, 1)
    y, new = norm_of(frozen=True).apply(variables, x, True, mutable=["batch_stats"])
    close(y, norm_of().apply(variables, x, False))
    jax.tree.map(np.testing.assert_array_equal, new["batch_stats"], variables["batch_stats"])


def test_variance_far_from_zero_is_not_lost_to_rounding():
    # Whole numbers, so that the mean is exact however they are added.
    x = jnp.float32(1e4 + 4 * normal(0, (512, 3))).round()
    norm = BatchNorm(momentum=0.0)
    variables = norm.init(jax.random.key(0), x, True)
    _, new = norm.apply(variables, x, True, mutable=["batch_stats"])
    assert new["batch_stats"]["var"].dtype == jnp.float32
    exact = np.var(np.float64(x), 0)
    assert (abs(new["batch_stats"]["var"] - exact) < bound(512, exact)).all()


def trained(norm, x):
    variables = norm.init(jax.random.key(0), x, False)
    return norm.apply(variables, x, True, mutable=["batch_stats"])


@pytest.mark.parametrize("shape", [(2, 3), (2, 1, 1, 3), (5, 4, 4, 3)], ids=str)
def test_equals_torch_with_its_unbiased_running_variance(shape):
    """With two values the running variance moves by twice the biased one."""
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(2, 3, shape)
    kind = torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d
    theirs = kind(3, momentum=0.1, dtype=torch.float64)
    channels_first = (0, 1) if len(shape) == 2 else (0, 3, 1, 2)
    back = np.argsort(channels_first)
    ours = norm_of(momentum=0.9, unbiased_running_var=True)
    for _ in range(2):
        expected = theirs(torch.from_numpy(x.transpose(channels_first).copy()))
    y, new = trained(ours, x)
    y, new = ours.apply({"params": {"scale": jnp.ones(3), "bias": jnp.zeros(3)}} | new, x, True,
                        mutable=["batch_stats"])  # fmt: skip
    close(y, expected.detach().numpy().transpose(back))
    stats = new["batch_stats"]
    close(stats, {"mean": theirs.running_mean.numpy(), "var": theirs.running_var.numpy()})
    theirs.eval()
    variables = {"params": {"scale": jnp.ones(3), "bias": jnp.zeros(3)}, "batch_stats": stats}
    expected = theirs(torch.from_numpy(x.transpose(channels_first).copy())).detach().numpy()
    close(ours.apply(variables, x, False), expected.transpose(back))


def test_the_unbiased_variance_of_one_value_is_refused():
    with pytest.raises(ValueError, match="a single value has no unbiased variance"):
        trained(BatchNorm(unbiased_running_var=True), jnp.ones((1, 3)))


@pytest.mark.slow
@settings(deadline=None, max_examples=4)
@given(groups=st.integers(1, 4), examples=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_groups_are_batches_of_their_own_and_move_the_running_statistics_by_their_mean(
    groups, examples, seed
):
    x = 3 * normal(seed, (groups * examples, 2, 2, 5)) + 1
    y, new = trained(norm_of(examples=examples), x)
    parts = [trained(norm_of(), part) for part in jnp.split(x, groups)]
    close(y, jnp.concatenate([part for part, _ in parts]))
    for name in ("mean", "var"):
        mean = np.mean([stats["batch_stats"][name] for _, stats in parts], 0)
        close(new["batch_stats"][name], mean)


def test_groups_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(ValueError, match="groups of 3 examples neither divide the 8 of a device"):
        trained(BatchNorm(examples=3), jnp.ones((8, 2)))


def test_a_scope_is_groups_of_a_device_or_whole_devices():
    assert find_scope(None, 8, 1) == find_scope(8, 8, 1) == Scope()
    assert find_scope(2, 8, 4) == Scope(groups=4)
    assert find_scope(8, 8, 4) == Scope()
    assert find_scope(16, 8, 4) == Scope(axis="devices", teams=((0, 1), (2, 3)))
    assert find_scope(None, 8, 4) == find_scope(32, 8, 4) == Scope(axis="devices")
    assert find_scope(16, 8, 4, "batch") == Scope(axis="batch", teams=((0, 1), (2, 3)))
    assert find_scope(None, 8, 4, "batch") == Scope(axis="batch")
    assert find_scope(2, 8, 4, "batch") == Scope(groups=4)
    for examples in (12, 24, 64):
        with pytest.raises(ValueError, match=f"groups of {examples} examples"):
            find_scope(examples, 8, 4)


def test_scale_and_bias_are_optional():
    x = 5 * normal(0, (64, 3)) + 2
    bare = norm_of(use_scale=False, use_bias=False)
    assert set(bare.init(jax.random.key(0), x, False)) == {"batch_stats"}
    close(trained(bare, x)[0], trained(norm_of(), x)[0])


def test_measuring_leaves_the_moments_of_the_batch_with_the_variance_between_groups():
    x = normal(0, (12, 3, 3, 4)) + jnp.arange(12.0)[:, None, None, None]
    norm = norm_of(examples=4, measuring=True)
    y, new = norm.apply(norm.init(jax.random.key(0), x, False), x, False, mutable=["batch_stats"])
    close(new["batch_stats"], {"mean": np.mean(x, (0, 1, 2)), "var": np.var(x, (0, 1, 2))})
    close(y, trained(norm_of(examples=4), x)[0])


@pytest.fixture(scope="module")
def own_programs(zygote):
    """What `own_axis_worker` prints."""
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    done = zygote.run(
        "-m", "tests.models.own_axis_worker", environment={"XLA_FLAGS": flags}, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("program", ["pmap", "pmap as for GPUs", "shard_map"])
def test_devices_along_an_axis_of_any_name_share_a_batch(own_programs, program):
    assert max(own_programs[program]) < 1e-12


@pytest.mark.slow
def test_devices_that_share_no_axis_normalise_each_by_itself(own_programs):
    assert max(own_programs["each by itself"]) < 1e-12


@pytest.mark.slow
def test_an_axis_of_devices_that_a_network_does_not_know_is_refused(own_programs):
    assert own_programs["refusal"].startswith(
        "this program is split over devices along 'batch', and not along 'devices'; name its axis "
        "'devices'. Where only the network is applied"
    )
