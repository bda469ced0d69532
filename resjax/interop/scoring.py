"""Scores of a network on a split: errors, loss, calibration and errors by class."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from scipy.special import log_softmax

from resjax.config import ConfigError, refuse_unknown
from resjax.config.naming import composed
from resjax.data.orders import evaluation_batches
from resjax.data.slices import Splits
from resjax.data.source import Encoded, Split
from resjax.data.sources import load, requested
from resjax.data.views import evaluation_view, image_shape
from resjax.interop.predicting import check_images, logits_function
from resjax.runs.weights import Weights
from resjax.training.parallel import Parallel

BINS = 15
"""Number of bins of confidences in the calibration error."""

TOP = 5


@dataclasses.dataclass(frozen=True)
class ClassScore:
    """The score of a class in an evaluation.

    Attributes:
      name: the network's name for it.
      examples: number of its examples.
      errors: number of these that are taken for another class.
      mistaken_for: class that most of them are taken for; None without any.
    """

    name: str
    examples: int
    errors: int
    mistaken_for: str | None


@dataclasses.dataclass(frozen=True)
class Scores:
    """The scores of an evaluation.

    Attributes:
      examples: number of examples that were evaluated.
      skipped: number of examples that could not be decoded and are counted nowhere.
      top1, top5: fraction of examples whose class has the largest logit, or one of the five
        largest; the latter None with no more classes than that. Of equal logits the first is
        larger, as in training.
      loss: mean cross-entropy, in nats.
      calibration_error: mean over examples of |accuracy - confidence| in their bin, of 15 equal
        ones of the probability of the predicted class (Guo et al. 2017, equation 3).
      by_name: whether the classes of the set were found by name, and not by position.
      classes: score of every class that has examples.
    """

    examples: int
    skipped: int
    top1: float
    top5: float | None
    loss: float
    calibration_error: float
    by_name: bool
    classes: tuple[ClassScore, ...]


class Outcomes(NamedTuple):
    """Outcomes of examples, `[N]` each, from which scores are computed.

    Attributes:
      labels, predictions: numbers of classes.
      ranks: ranks of the labels' logits, 0 for the largest.
      losses: cross-entropies.
      confidences: probabilities of the predictions.
    """

    labels: np.ndarray
    predictions: np.ndarray
    ranks: np.ndarray
    losses: np.ndarray
    confidences: np.ndarray


def evaluate(weights: Weights, data: ConfigDict, batch_size: int, trained: bool = False) -> Scores:
    """Evaluates on the split `data.test` of the set `data.name`, on all devices.

    If that names no split and the set has none to test on, it takes all of the set, or if the
    network was `trained` on this set, what its run did not train on.

    Images are prepared as `data` says, with the channels of the network, and standardised as the
    network's were. `matched` says which class is which output.

    Raises:
      ConfigError: if the set cannot be read, or its images or classes are not the network's.
    """
    refuse_unknown(data, "data")
    splits = Splits(test=data.test, test_only=True, trained=trained)
    channels = weights.about.image_shape[-1]
    request = requested(data, splits)._replace(channels=channels if channels in (1, 3) else 0)
    source = load(data.name, request)
    check_images(weights, image_shape(data, source))
    names = weights.about.class_names
    outputs = matched(source.class_names, names, data.name)
    parallel = Parallel(tuple(jax.devices()))
    batch_size = -(-min(batch_size, len(source.test)) // parallel.count) * parallel.count
    compute_logits, parts = logits_function(weights, parallel), []
    for images, labels, valid in _batches(source.test, data, batch_size):
        parts.append(outcomes(compute_logits(images)[valid], outputs[labels[valid]]))
    together = Outcomes(*map(np.concatenate, zip(*parts, strict=True)))
    skipped = len(source.test) - len(together.labels)
    if skipped == len(source.test):
        raise ConfigError(
            f"none of the {skipped} images of {data.name} can be decoded; fetch them again"
        )
    by_name = all(
        composed(names[place]) == composed(name)
        for place, name in zip(outputs, source.class_names, strict=True)
    )
    return summarise_scores(together, names, by_name, skipped)


def outcomes(logits: np.ndarray, labels: np.ndarray) -> Outcomes:
    """Computes outcomes from logits `[N, classes]` and labels `[N]`, in float64."""
    logits = np.float64(logits)
    logs = log_softmax(logits, -1)
    own = np.take_along_axis(logits, labels[:, None], -1)
    losses = -np.take_along_axis(logs, labels[:, None], -1)[:, 0]
    before = np.arange(logits.shape[-1]) < labels[:, None]
    ranks = ((logits > own) | (logits == own) & before).sum(-1)
    ranks = np.where(np.isfinite(losses), ranks, logits.shape[-1])
    return Outcomes(labels, logits.argmax(-1), ranks, losses, np.exp(logs.max(-1)))


def summarise_scores(
    found: Outcomes, names: tuple[str, ...], by_name: bool = True, skipped: int = 0
) -> Scores:
    """Computes means over examples, and counts by class."""
    right = found.ranks == 0
    classes = []
    for label in np.unique(found.labels):
        of_class = found.labels == label
        wrong = found.predictions[of_class & ~right]
        others = np.bincount(wrong[wrong != label], minlength=len(names))
        most = names[int(others.argmax())] if others.any() else None
        classes.append(ClassScore(names[label], int(of_class.sum()), len(wrong), most))
    return Scores(
        examples=len(right),
        skipped=skipped,
        top1=float(right.mean()),
        top5=float((found.ranks < TOP).mean()) if len(names) > TOP else None,
        loss=float(found.losses.mean()),
        calibration_error=calibration_error(found.confidences, right),
        by_name=by_name,
        classes=tuple(classes),
    )


def calibration_error(confidences: np.ndarray, right: np.ndarray) -> float:
    """Sum over bins of |sum of right - sum of confidences|, over all examples; both `[N]`.

    >>> round(calibration_error(np.array([0.9, 0.9]), np.array([True, False])), 2)
    0.4
    """
    confidences = np.nan_to_num(confidences, nan=1.0)
    bins = np.clip(np.ceil(confidences * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, right - confidences, minlength=BINS)
    return float(np.abs(gaps).sum() / len(right))


def matched(there: tuple[str, ...], names: tuple[str, ...], what: str) -> np.ndarray:
    """The network's output for every label of a data set, `[classes of the set]`.

    It is found by name, if each class of the set has the name of exactly one output. If not, and
    there are as many classes as outputs, it is found by position; if all classes of the set are
    called by numbers, in the order of these numbers.

    >>> matched(("1", "10", "2"), ("cat", "dog", "owl"), "folder")
    array([0, 2, 1])

    Raises:
      ConfigError: if neither names nor numbers of classes fit.
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(composed(name), []).append(place)
    there = tuple(map(composed, there))
    if all(len(places.get(name, ())) == 1 for name in there):
        return np.array([places[name][0] for name in there])
    if len(there) == len(names):
        return _ranks(there)
    unknown = next(name for name in there if len(places.get(name, ())) != 1)
    if unknown in places:
        raise ConfigError(
            f"{what} has a class {unknown!r}, and {len(places[unknown])} classes of the network "
            "are called so; give these names of their own by resjax import --class-names=FILE"
        )
    raise ConfigError(
        f"{what} has {len(there)} classes, such as {unknown!r}, and the network has {len(names)}, "
        f"such as {names[0]!r}; name its folders like classes of the network"
    )


def _ranks(there: tuple[str, ...]) -> np.ndarray:
    """The positions of the classes, or their numerical ranks if all are numbers, as "10" < "2"."""
    if not all(map(str.isdecimal, there)):
        return np.arange(len(there))
    return np.argsort(np.argsort([int(name) for name in there], kind="stable"))


def _batches(
    split: Split | Encoded, data: ConfigDict, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields images, labels and validity in batches of one size; the last is padded."""
    if isinstance(split, Split):
        for index, valid in evaluation_batches(len(split), size):
            yield split.images[index], split.labels[index], valid
        return
    from resjax.data.streaming import evaluation_feed

    try:
        view = evaluation_view(data)
    except ValueError as error:
        raise ConfigError(f"data: {error}") from None
    feed = evaluation_feed(split, view, size, workers=data.workers, on_bad=data.on_bad)
    try:
        for batch in feed:
            yield batch.images, batch.labels, batch.valid
    finally:
        feed.close()
