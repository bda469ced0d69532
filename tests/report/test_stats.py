import math
import statistics

import numpy as np
import pytest
from scipy import stats as scipy_stats

from resjax.report import stats
from resjax.report.stats import holm, interval_of_mean, paired, summarise

DRAWS = 2000


def test_a_sample_has_the_statistics_of_scipy():
    values = [0.31, 0.42, 0.39, 0.55, 0.47]
    sample = summarise(values)
    described = scipy_stats.describe(values)
    assert sample.n == 5
    assert sample.mean == pytest.approx(described.mean)
    assert sample.deviation == pytest.approx(math.sqrt(described.variance))
    assert sample.median == np.median(values)
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert sample.interval == pytest.approx(tuple(expected))


def test_one_number_has_no_deviation_and_no_interval():
    assert summarise([0.5]) == stats.Sample(1, 0.5, 0.5, None, None)


@pytest.mark.parametrize("wrong", [math.inf, math.nan])
def test_a_number_that_is_not_finite_leaves_no_interval(wrong):
    assert summarise([0.1, wrong]) == stats.Sample(2, math.inf, math.inf, math.inf, None)


@pytest.mark.parametrize(
    ("first", "second", "mean"),
    [([math.inf, 0.1], [0.1, 0.1], math.inf), ([0.1, 0.1], [0.1, math.inf], -math.inf),
     ([math.inf, 0.1], [0.1, math.inf], math.nan), ([math.inf], [math.inf], math.nan)],
)  # fmt: skip
def test_a_difference_that_is_not_finite_leaves_no_interval(first, second, mean):
    """Even where each of two networks diverges with another seed."""
    found = paired(first, second)
    assert found.mean == pytest.approx(mean, nan_ok=True)
    assert (found.n, found.interval, found.p) == (len(first), None, None)


def test_paired_differences_are_those_of_t_test_in_r():
    """`t.test(extra ~ group, data = sleep, paired = TRUE)`, from the manual of R."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired(first, second)
    assert found.mean == pytest.approx(-1.58)
    assert found.p == pytest.approx(0.002833, abs=5e-7)
    assert found.interval == pytest.approx((-2.4598858, -0.7001142))


def test_intervals_of_several_comparisons_are_those_of_bonferroni():
    """`DescrStatsW(a - b).tconfint_mean(alpha=0.05 / 3)` of statsmodels."""
    first, second = [0.31, 0.42, 0.39, 0.55, 0.47], [0.29, 0.35, 0.41, 0.44, 0.40]
    found = paired(first, second, comparisons=3)
    assert found.interval == pytest.approx((-0.03944715242347544, 0.13944715242347547))
    assert found.p == pytest.approx(scipy_stats.ttest_rel(first, second).pvalue)


def test_a_few_equal_differences_are_no_more_certain_than_their_least_variance():
    found = paired([0.2, 0.2, 0.2], [0.1, 0.1, 0.1], least_variance=0.01)
    margin = scipy_stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert found.interval == pytest.approx((0.1 - margin, 0.1 + margin))
    assert found.p == pytest.approx(2 * scipy_stats.t.sf(math.sqrt(3), 2))
    assert paired([0.1] * 3, [0.1] * 3).p == 1
    assert paired([0.2] * 3, [0.1] * 3).p == 0


def test_one_pair_has_a_difference_only():
    assert paired([0.3], [0.1]) == stats.Difference(1, pytest.approx(0.2), None, None)


def test_correction_is_that_of_statsmodels():
    """`multipletests(p, method="holm")`."""
    corrected = holm([0.012, 0.001, 0.2, 0.03, 0.04, 0.9])
    assert corrected == pytest.approx([0.06, 0.006, 0.4, 0.12, 0.12, 0.9])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_families_have_a_false_positive_five_times_in_a_hundred():
    random = np.random.default_rng(0)
    families = random.uniform(size=(DRAWS, 12))
    assert 0.035 < np.mean([min(holm(family)) < 0.05 for family in families]) < 0.065


def coverage(draw, truth, interval):
    random = np.random.default_rng(1)
    ends = np.array([interval(draw(random)) for _ in range(DRAWS)])
    return np.mean((ends[:, 0] < truth) & (truth < ends[:, 1]))


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_intervals_of_a_few_seeds_hold_the_mean_in_95_of_100_sweeps(n):
    assert 0.93 < coverage(lambda r: r.normal(0.1, 0.02, n), 0.1, interval_of_mean) < 0.97


@pytest.mark.parametrize(("n", "skewed", "lottery"), [(3, 0.88, 0.66), (5, 0.88, 0.87)])
def test_intervals_of_a_few_seeds_hold_less_often_where_seeds_are_far_from_normal(
    n, skewed, lottery
):
    """Exponential errors, and errors of networks of which one in three trains."""
    found = coverage(lambda r: r.exponential(1, n), 1, interval_of_mean)
    assert found == pytest.approx(skewed, abs=0.02)
    found = coverage(lambda r: (r.random(n) < 2 / 3).astype(float), 2 / 3, interval_of_mean)
    assert found == pytest.approx(lottery, abs=0.03)


@pytest.mark.parametrize("distribution", ["normal", "exponential"])
@pytest.mark.slow
def test_bootstrapped_intervals_hold_the_mean_in_95_of_100_sweeps(monkeypatch, distribution):
    monkeypatch.setattr(stats, "RESAMPLES", 999)
    draw = {"normal": lambda r: r.normal(1, 0.2, 20), "exponential": lambda r: r.exponential(1, 20)}
    assert 0.93 < coverage(draw[distribution], 1, interval_of_mean) < 0.97


def test_paired_intervals_hold_the_difference_though_seeds_share_what_they_share():
    def interval(drawn):
        shared, first, second = drawn
        return paired(shared + 0.3 + 0.01 * first, shared + 0.1 + 0.02 * second).interval

    found = coverage(lambda r: r.normal(size=(3, 4)), 0.2, interval)
    assert 0.93 < found < 0.97


def test_the_bootstrap_equals_one_written_in_loops():
    values = np.random.default_rng(3).exponential(size=24)
    pivots = []
    random = np.random.default_rng(4)
    for _ in range(4_000):
        resample = [values[place] for place in random.integers(24, size=24)]
        error = statistics.stdev(resample) / math.sqrt(24)
        pivots.append((statistics.fmean(resample) - values.mean()) / error)
    low, high = np.percentile(pivots, [2.5, 97.5])
    expected = [values.mean() - high * scipy_stats.sem(values),
                values.mean() - low * scipy_stats.sem(values)]  # fmt: skip
    assert interval_of_mean(values) == pytest.approx(expected, abs=0.08 * np.ptp(expected))
    assert interval_of_mean(values) == interval_of_mean(values)


def test_values_too_alike_for_a_bootstrap_have_a_t_interval():
    values = [0.0] * 19 + [0.01]
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval_of_mean(values) == pytest.approx(tuple(expected))
