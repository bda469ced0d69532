"""Errors, loss and calibration of logits, against scikit-learn, SciPy and counting by hand."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss, top_k_accuracy_score

from resjax.config import ConfigError
from resjax.interop.scoring import calibration_error, matched, outcomes, summarise_scores

NAMES = tuple(f"class {number}" for number in range(8))


@pytest.fixture
def scored():
    random = np.random.default_rng(0)
    logits = random.normal(size=(500, 8)).astype(np.float32) * 3
    labels = np.where(random.random(500) < 0.5, logits.argmax(-1), random.integers(0, 8, 500))
    return logits, labels, summarise_scores(outcomes(logits, labels), NAMES)


def test_means_are_those_of_scikit_learn(scored):
    logits, labels, scores = scored
    exact = logits.astype(np.float64)
    assert scores.top1 == pytest.approx(top_k_accuracy_score(labels, exact, k=1))
    assert scores.top5 == pytest.approx(top_k_accuracy_score(labels, exact, k=5))
    assert scores.loss == pytest.approx(log_loss(labels, softmax(exact, -1)))
    assert scores.loss == pytest.approx(-log_softmax(exact, -1)[np.arange(500), labels].mean())


def test_calibration_by_counting(scored):
    logits, labels, scores = scored
    probabilities, total = softmax(np.float64(logits), -1), 0.0
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            total += inside.sum() * abs(right[inside].mean() - confidence[inside].mean())
    assert scores.calibration_error == pytest.approx(total / 500)
    assert calibration_error(np.ones(4), np.array([True, True, False, False])) == 0.5


def test_classes_add_up_to_the_whole(scored):
    logits, labels, scores = scored
    assert sum(each.examples for each in scores.classes) == scores.examples == 500
    wrong = sum(each.errors for each in scores.classes)
    assert wrong == round(500 * (1 - scores.top1))
    of_two = labels == 2
    two = next(each for each in scores.classes if each.name == "class 2")
    assert two.examples == of_two.sum()
    taken = logits[of_two].argmax(-1)
    assert two.mistaken_for == NAMES[np.bincount(taken[taken != 2]).argmax()]


def test_equal_logits_are_ordered_as_in_training_and_no_number_is_an_error():
    logits = np.array([[1.0, 1.0], [1.0, 1.0], [np.nan, 0.0]])
    scores = summarise_scores(outcomes(logits, np.array([0, 1, 0])), ("a", "b"))
    assert scores.top1 == pytest.approx(1 / 3)
    assert scores.top5 is None


def test_classes_are_matched_by_name_or_else_by_position():
    assert matched(("dog", "cat"), ("ant", "cat", "dog"), "set").tolist() == [2, 1]
    assert matched(("cafe\u0301", "a"), ("a", "caf\u00e9"), "set").tolist() == [1, 0]
    assert matched(("n01", "n02"), ("tench", "goldfish"), "set").tolist() == [0, 1]
    with pytest.raises(ConfigError, match=r"set has 2 classes, such as 'n01', and the network has"):
        matched(("n01", "cat"), ("ant", "cat", "dog"), "set")


def test_classes_called_by_numbers_are_matched_in_the_order_of_the_numbers():
    folders = tuple(sorted(map(str, range(12))))
    assert folders[2] == "10"
    names = tuple(f"animal {number}" for number in range(12))
    assert [names[place] for place in matched(folders, names, "set")] == [
        f"animal {folder}" for folder in folders
    ]
    assert matched(("001", "010", "2"), names[:3], "set").tolist() == [0, 2, 1]
    assert matched(folders, folders, "set").tolist() == list(range(12))  # these by name


def test_two_classes_of_one_name_hinder_only_those_that_are_called_so():
    names = ("crane", "tench", "crane", "owl")
    assert matched(("owl", "tench"), names, "set").tolist() == [3, 1]
    assert matched(names, names, "set").tolist() == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="'crane', and 2 classes of the network are called so"):
        matched(("crane", "owl"), names, "set")
