"""A training step alone, with any optimiser, as a program of one's own takes it."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import resjax
from resjax.ops.random import random_key
from resjax.training.losses import of_known_labels, squared_error
from tests.drawn import normal
from tests.models.compiled import quick

EXAMPLES, CLASSES = 6, 3


def parts(optimizer, **keys):
    """A small network, its state, and the step of them."""
    model = resjax.named_model(
        "cifar-resnet8", classes=CLASSES, depth=5, block="single", width=2, **keys
    )
    state = resjax.create_state(model, optimizer, seed=0, image_shape=(4, 4, 1))
    step = functools.partial(resjax.train_step, model, resjax.cross_entropy, optimizer.update)
    return model, state, step


def drawn():
    return normal(1, (EXAMPLES, 4, 4, 1)), jnp.arange(EXAMPLES) % CLASSES


def differ(one, other):
    """Whether any array of a tree is another one."""
    return not all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


def gradient_and_logits(model, state, batch):
    """The gradient of the mean loss of the parameters of a state, and their logits."""
    images, labels = batch

    def mean(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
        return -jax.nn.log_softmax(logits)[jnp.arange(EXAMPLES), labels].mean(), logits

    return quick(jax.grad(mean, has_aux=True))(state.params)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_a_step_is_that_of_the_optimiser_and_its_metrics_are_of_the_parameters_before():
    optimizer = optax.adamw(0.1)
    model, state, step = parts(optimizer, dtype="float64")
    batch = drawn()
    for number in range(2):
        gradient, logits = gradient_and_logits(model, state, batch)
        updates, _ = optimizer.update(gradient, state.opt_state, state.params)
        after, metrics = quick(step)(state, batch, jax.random.key(0))
        expected = optax.apply_updates(state.params, updates)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, 1e-9, 1e-9), after.params, expected
        )
        own = -np.array(jax.nn.log_softmax(logits))[range(EXAMPLES), batch[1]]
        assert metrics.means()["loss"] == pytest.approx(own.mean(), rel=1e-9)
        assert metrics.means()["error"] == np.mean(
            np.array(logits).argmax(-1) != np.array(batch[1])
        )
        assert int(after.step) == number + 1
        state = after


@pytest.mark.slow
def test_a_rate_is_that_of_its_step_where_the_optimiser_takes_one():
    batch, key = drawn(), jax.random.key(0)

    def moved(optimizer, *rate):
        _, state, step = parts(optimizer)
        return quick(step)(state, batch, key, *rate)[0].params

    injected = optax.inject_hyperparams(optax.sgd)
    other = moved(optax.sgd(0.5))
    assert not differ(moved(injected(0.1), 0.5), other)
    assert differ(moved(injected(0.1)), other)
    assert not differ(moved(optax.chain(optax.identity(), injected(0.1)), 0.5), other)
    scheduled = injected(optax.constant_schedule(0.5))  # whose state has an entry of this name
    assert not differ(moved(scheduled, 0.1), other)
    assert not differ(moved(optax.sgd(0.5), 0.1), other)


@pytest.mark.slow
def test_an_optimiser_that_waits_for_a_lower_loss_is_told_the_mean_loss():
    plateau = optax.contrib.reduce_on_plateau(factor=0.5, patience=1, accumulation_size=1)
    _, state, step = parts(optax.chain(optax.sgd(0.0), plateau))
    step, scales, losses = quick(step), [], []
    for _ in range(3):
        state, metrics = step(state, drawn(), jax.random.key(0))
        losses.append(float(metrics.means()["loss"]))
        scales.append(float(state.opt_state[1].scale))
    assert scales == [1, 0.5, 0.25]  # after the first, no loss is lower
    assert float(state.opt_state[1].best_value) == pytest.approx(losses[0], rel=1e-6)


@pytest.mark.slow
def test_a_step_that_is_skipped_counts_no_example_and_the_next_goes_on_from_before_it():
    images, labels = drawn()
    _, state, step = parts(optax.adamw(0.1))
    step = quick(functools.partial(step, on_nan="skip"))
    key = jax.random.key(0)
    skipped, metrics = step(state, (images.at[2].set(jnp.nan), labels), key)
    assert [float(leaf) for leaf in jax.tree.leaves(metrics)] == [0, 0, 0]
    assert (int(skipped.step), int(skipped.skipped_updates)) == (1, 1)
    assert not differ(skipped.replace(step=0, skipped_updates=0), state)
    after, metrics = step(skipped, (images, labels), key)
    expected, _ = step(state, (images, labels), key)
    assert not differ(after.params, expected.params)
    assert (int(metrics.examples), int(after.skipped_updates)) == (EXAMPLES, 1)


@pytest.mark.slow
def test_what_is_random_changes_from_step_to_step_and_with_the_key():
    batch = drawn()
    _, state, step = parts(optax.sgd(0.0), shortcut="dropout", shortcut_dropout=0.5)
    step = quick(step)
    losses = {
        float(step(state.replace(step=jnp.int32(number)), batch, jax.random.key(seed))[1].loss)
        for number, seed in ((0, 0), (1, 0), (0, 1), (0, 0))
    }
    assert len(losses) == 3


class Own(nn.Module):
    """A network that knows nothing of resjax."""

    @nn.compact
    def __call__(self, images, train):
        x = nn.Conv(4, (3, 3), dtype=images.dtype)(images)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, dtype=images.dtype)(x))
        return nn.Dense(CLASSES)(x.mean((1, 2)))


class Dropped(nn.Module):
    """A network that drops its images at random, and does not ask for their numbers."""

    @nn.compact
    def __call__(self, images, train):
        dropped = nn.Dropout(0.5, deterministic=not train)(images).reshape(len(images), -1)
        return dropped[:, :CLASSES] + self.param("bias", nn.initializers.zeros, (CLASSES,))


@pytest.mark.slow
def test_what_is_random_differs_between_micro_batches_of_any_network():
    def sum_of_dropped(logits, labels):
        return (logits * 10.0 ** jnp.arange(CLASSES)).sum(-1)

    model, optimizer = Dropped(), optax.sgd(0.0)
    state = resjax.create_state(model, optimizer, seed=0, image_shape=(4, 4, 1))
    step = functools.partial(resjax.train_step, model, sum_of_dropped, optimizer.update)
    images, labels = jnp.ones((2, 1, 4, 4, 1)), jnp.zeros((2, 1), jnp.int32)
    sums = [
        float(step(state, (images.at[number].set(0), labels), jax.random.key(seed))[1].loss)
        for seed in range(8)
        for number in range(2)
    ]
    assert sums[::2] != sums[1::2]  # of the second and of the first micro-batch alone


@pytest.mark.slow
def test_a_network_of_flax_alone_is_trained_and_evaluated_as_by_hand():
    model, optimizer, (images, labels) = Own(), optax.adamw(0.1), drawn()
    state = resjax.create_state(model, optimizer, seed=0, image_shape=images.shape[1:])
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    drawn_by_flax = jax.jit(model.init, static_argnums=2)(random_key(0), images, False)
    jax.tree.map(close, state.evaluated(), drawn_by_flax)
    after, metrics = quick(
        functools.partial(resjax.train_step, model, resjax.cross_entropy, optimizer.update)
    )(state, (images, labels), jax.random.key(0))
    gradient, logits = gradient_and_logits(model, state, (images, labels))
    updates, _ = optimizer.update(gradient, optimizer.init(state.params), state.params)
    by_hand = optax.apply_updates(state.params, updates)
    jax.tree.map(close, after.params, by_hand)
    assert metrics.means()["error"] == np.mean(np.array(logits).argmax(-1) != np.array(labels))
    valid = jnp.ones(EXAMPLES, bool)
    found = resjax.eval_step(
        model, resjax.cross_entropy, after.evaluated(), (images, labels), valid
    )
    logits = model.apply(after.evaluated(), images, train=False)
    assert found.means()["error"] == np.mean(np.array(logits).argmax(-1) != np.array(labels))


class Centred(nn.Module):
    """A network that holds an array, and passes on what else it is told."""

    mean: np.ndarray

    @nn.compact
    def __call__(self, images, **options):
        return Own()(images - self.mean, **options)


@pytest.mark.slow
def test_a_network_is_told_the_place_of_its_images_only_if_it_names_it():
    model, optimizer = Centred(np.ones((1,), np.float32)), optax.sgd(0.1)
    state = resjax.create_state(model, optimizer, seed=0, image_shape=(4, 4, 1))
    step = functools.partial(resjax.train_step, model, resjax.cross_entropy, optimizer.update)
    after, _ = quick(step)(state, drawn(), jax.random.key(0))
    assert differ(after.params, state.params)


def test_labels_that_are_no_classes_are_refused():
    _, state, step = parts(optax.sgd(0.1))
    images, labels = drawn()
    with pytest.raises(ValueError, match=r"labels are float32 of shape \(6, 3\); give the number"):
        step(state, (images, jax.nn.one_hot(labels, CLASSES)), jax.random.key(0))


IMAGES, LABELS = drawn()
MISTAKES = {
    "a column": ((IMAGES, LABELS[:, None]), r"labels of shape \(6, 1\) are not those of images of"),
    "too few": ((IMAGES, LABELS[:4]), r"shape \(4,\) are not .* shape \(6, 4, 4, 1\); give \[N\]"),
    "a dict": ({"images": IMAGES, "labels": LABELS}, r"two arrays, \(images, labels\), .* is dict"),
    "a list": ((IMAGES, LABELS.tolist()), r"two arrays, .* and this is \w+ and list"),
    "split": ((IMAGES.reshape(2, 3, 4, 4, 1), LABELS), r"put an axis of micro-batches before both"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_batch_that_is_none_is_refused_with_its_shapes(name):
    batch, message = MISTAKES[name]
    model, state, step = parts(optax.sgd(0.1))
    with pytest.raises(ValueError, match=message):
        step(state, batch, jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        resjax.eval_step(model, resjax.cross_entropy, state.evaluated(), batch)


def test_an_optimiser_in_place_of_its_update_is_refused():
    model, state, _ = parts(optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"GradientTransformation\w* is no function; give its mem"):
        resjax.train_step(
            model, resjax.cross_entropy, optax.sgd(0.1), state, drawn(), jax.random.key(0)
        )


@pytest.mark.slow
def test_a_loss_that_is_a_mean_is_refused():
    model, state, _ = parts(optax.sgd(0.1))
    update = optax.sgd(0.1).update

    def mean(logits, labels):
        return resjax.cross_entropy(logits, labels).mean()

    with pytest.raises(ValueError, match=r"of 6 examples has shape \(\); .*, of shape \(6,\)"):
        resjax.train_step(model, mean, update, state, drawn(), jax.random.key(0))
    with pytest.raises(ValueError, match=r"of 6 examples has shape \(\)"):
        resjax.eval_step(model, mean, state.evaluated(), drawn())


@pytest.mark.parametrize("label", [-1, CLASSES])
@pytest.mark.parametrize(
    "loss",
    [resjax.cross_entropy, functools.partial(resjax.cross_entropy, smoothing=0.1), squared_error],
    ids=["cross-entropy", "smoothed", "mse"],
)
def test_the_loss_of_a_label_that_is_no_number_of_a_class_is_not_a_number(loss, label):
    logits, labels = normal(2, (2, CLASSES)), jnp.array([0, label])
    losses = of_known_labels(loss(logits, labels), labels, CLASSES)
    assert np.isnan(losses[1])
    assert losses[0] == loss(logits[:1], labels[:1])[0]


@pytest.mark.slow
def test_steps_and_evaluations_tell_of_a_label_that_is_no_number_of_a_class():
    model, state, step = parts(optax.sgd(0.1))
    images, labels = drawn()
    batch = images, labels.at[2].set(-1)
    assert np.isnan(quick(step)(state, batch, jax.random.key(0))[1].loss)
    assert np.isnan(resjax.eval_step(model, resjax.cross_entropy, state.evaluated(), batch).loss)


def test_a_state_begins_with_a_seed_or_with_its_key():
    model, optimizer = parts(optax.sgd(0.1))[0], optax.sgd(0.1)
    make = functools.partial(resjax.create_state, model, optimizer, image_shape=(4, 4, 1))
    assert not differ(make(seed=jax.random.key(3)).params, make(seed=3).params)
    for seed in (-1, 2**32, 0.5, jax.random.PRNGKey(0)):
        with pytest.raises(
            ValueError, match=r"seed=.* is neither a number from 0 to 2\^32 - 1 nor"
        ):
            make(seed=seed)


@pytest.mark.slow
def test_a_state_begins_with_the_variables_that_it_is_given():
    model, other, _ = parts(optax.sgd(0.1))
    variables = jax.tree.map(lambda leaf: np.asarray(leaf) + 1, other.evaluated())
    begin = functools.partial(
        resjax.create_state, model, optax.adam(0.1), seed=0, image_shape=(4, 4, 1), ema_decay=0.9
    )
    state = begin(variables=variables)
    assert not differ(state.evaluated(), variables)
    assert jax.tree.structure(state) == jax.tree.structure(begin())
    with pytest.raises(ValueError, match=r'variables are .*head.*; give {"params": \.\.\., "batch'):
        begin(variables=variables["params"])


def test_the_shape_of_a_whole_batch_is_refused_as_that_of_an_image():
    model, _, _ = parts(optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"=\(1, 16, 16, 3\) is not \(height, width, channels\)"):
        resjax.create_state(model, optax.sgd(0.1), seed=0, image_shape=(1, 16, 16, 3))


def test_an_evaluation_takes_any_pair_of_images_and_labels():
    model, state, _ = parts(optax.sgd(0.1))
    images, labels = drawn()
    variables, valid = state.evaluated(), jnp.arange(EXAMPLES) < 4
    evaluate = functools.partial(resjax.eval_step, model, resjax.cross_entropy, variables)
    assert evaluate((images, labels)).examples == EXAMPLES
    metrics = evaluate((images, labels), valid)
    logits = model.apply(variables, images, train=False)
    assert metrics.means()["error"] == np.mean(logits.argmax(-1)[:4] != labels[:4])
