"""Statistics of small samples: means with intervals, paired differences, a correction."""

import dataclasses
import math
import statistics
from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95

BOOTSTRAP_FROM = 20
"""Sample size from which intervals are bootstrapped.

A bootstrap only knows the values it was given: at n = 3 its percentiles hold the mean in 74 % of
samples instead of 95 %.
"""

RESAMPLES = 9_999


@dataclasses.dataclass(frozen=True)
class Sample:
    """Statistics of some numbers.

    Attributes:
      n: number of the numbers.
      mean, median: their mean and median; infinite if one of the numbers is not finite.
      deviation: sample standard deviation; None for one number, infinite if one is not finite.
      interval: 95 % interval of the mean; None for one number, or if one is not finite.
    """

    n: int
    mean: float
    median: float
    deviation: float | None
    interval: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Difference:
    """The mean difference of pairs, first less second.

    Attributes:
      n: number of pairs.
      mean: mean of the differences; NaN if it is that of inf and -inf.
      interval: t interval of the mean; None for one pair, or if a difference is not finite.
      p: p value of the two-sided paired t test; None where there is no interval.
    """

    n: int
    mean: float
    interval: tuple[float, float] | None
    p: float | None


def summarise(values: Sequence[float], least_variance: float = 0.0) -> Sample:
    """Mean, median, deviation and interval of at least one number.

    The interval is that of `least_variance` where the sample's own is smaller.

    >>> sample = summarise([6.43, 6.61, 6.79])
    >>> round(sample.mean, 2), round(sample.deviation, 2)
    (6.61, 0.18)
    >>> [round(end, 2) for end in sample.interval]
    [6.16, 7.06]
    """
    if not all(map(math.isfinite, values)):
        deviation = None if len(values) == 1 else math.inf
        return Sample(len(values), math.inf, math.inf, deviation, None)
    return Sample(
        n=len(values),
        mean=statistics.fmean(values),
        median=statistics.median(values),
        deviation=statistics.stdev(values) if len(values) > 1 else None,
        interval=interval_of_mean(values, least_variance) if len(values) > 1 else None,
    )


def interval_of_mean(values: Sequence[float], least_variance: float = 0.0) -> tuple[float, float]:
    """95 % interval of the mean of at least two finite numbers.

    The t interval up to `BOOTSTRAP_FROM` numbers, and from there on the bootstrap-t interval (Efron
    and Tibshirani 1993, section 12.5), which follows skewed distributions: with 20 exponential
    numbers it holds the mean in 94 % of samples, the t interval in 91 %, and the percentile and BCa
    bootstraps of scipy in 89 and 91 %.
    """
    if len(values) >= BOOTSTRAP_FROM:
        found = _bootstrap_t(tuple(values))
        if found is not None:
            return found
    variance = max(statistics.variance(values), least_variance)
    return _t_interval(statistics.fmean(values), variance, len(values))


def _t_interval(
    mean: float, variance: float, n: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    margin = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * math.sqrt(variance / n)
    return mean - margin, mean + margin


def _bootstrap_t(numbers: tuple[float, ...]) -> tuple[float, float] | None:
    """Bootstrap-t interval, the same for equal numbers; None if a resample has no spread."""
    values = np.asarray(numbers, float)
    resamples = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    errors = resamples.std(axis=1, ddof=1)
    if not errors.all():
        return None
    pivots = (resamples.mean(axis=1) - values.mean()) / errors
    low, high = np.quantile(pivots, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    mean, error = values.mean(), values.std(ddof=1)
    return float(mean - high * error), float(mean - low * error)


def paired(
    first: Sequence[float],
    second: Sequence[float],
    least_variance: float = 0.0,
    comparisons: int = 1,
) -> Difference:
    """The mean of `first - second` with its t interval and t test.

    >>> deep, shallow = [0.50, 0.46, 0.51], [0.02, 0.01, 0.00]
    >>> found = paired(deep, shallow)
    >>> round(found.mean, 2), [round(end, 2) for end in found.interval]
    (0.48, [0.41, 0.55])

    Args:
      first: numbers, one of each pair.
      second: the others, in the same order.
      least_variance: variance of a difference that is used where the sample's own is smaller,
        since a few seeds have equal errors.
      comparisons: number of differences whose intervals hold all of their means at once in at
        least 95 % of samples (Bonferroni). The test is not corrected.
    """
    differences = [a - b for a, b in zip(first, second, strict=True)]
    n = len(differences)
    if not all(map(math.isfinite, differences)):  # of which `fmean` takes no inf beside -inf
        return Difference(n, sum(differences), None, None)
    mean = statistics.fmean(differences)
    if n == 1:
        return Difference(n, mean, None, None)
    variance = max(statistics.variance(differences), least_variance)
    error = math.sqrt(variance / n)
    score = abs(mean) / error if error else math.inf if mean else 0.0
    p = 2 * float(stats.t.sf(score, n - 1))
    confidence = 1 - (1 - CONFIDENCE) / comparisons
    return Difference(n, mean, _t_interval(mean, variance, n, confidence), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values of a family of tests, adjusted so that 5 % of families have a false positive.

    The k-th smallest of m becomes the largest of (m - j + 1) p_j over j <= k (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected
