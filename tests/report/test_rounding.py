import math

import pytest

from resjax.report import rounding


@pytest.mark.parametrize(
    ("mean", "deviation", "text"),
    [
        (6.6123, 0.1603, "6.61 ± 0.16"),
        (0.827, 0.119, "0.83 ± 0.12"),  # the two examples of the Particle Data Group
        (0.827, 0.367, "0.8 ± 0.4"),
        (8.123, 0.97, "8.1 ± 1.0"),
        (0.5, 0.9996, "0.5 ± 1.0"),
        (48.43, 26.46, "48 ± 26"),
        (1234.5, 321.0, "1234 ± 321"),
        (0.0, 0.0, "0.00 ± 0.00"),
        (12.3456, None, "12.35"),
        (math.inf, math.inf, "inf ± inf"),
    ],
)
def test_a_mean_has_the_digits_that_its_deviation_leaves(mean, deviation, text):
    assert rounding.with_deviation(mean, deviation, 2) == text


def test_an_interval_is_rounded_to_half_its_width():
    assert rounding.interval((6.4111, 6.8111), 2) == "6.41 to 6.81"
    assert rounding.interval((-0.0012, 42.3), 2, sign=True) == "0 to +42"
    assert rounding.interval(None, 2) == "-"


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((0.31, 11.9), "+0.3 to +11.9"),
        ((-11.9, -0.04), "-11.90 to -0.04"),
        ((0.5, 11.9), "+0.5 to +11.9"),
        ((1e-15, 11.9), "0 to +12"),  # what is left of zero by rounding
        ((0.0, 11.9), "0 to +12"),
        ((-0.31, 11.9), "0 to +12"),
    ],
)
def test_an_interval_without_zero_does_not_read_as_if_it_held_it(ends, text):
    assert rounding.interval(ends, 2, sign=True) == text


def test_a_number_that_rounds_to_zero_has_no_sign():
    assert rounding.number(-0.001, 2) == "0.00"
    assert rounding.number(0.001, 2, sign=True) == "0.00"
    assert rounding.number(-0.01, 2, sign=True) == "-0.01"


def test_an_infinite_difference_has_its_sign_and_one_of_infinite_errors_is_none():
    """A network that diverges is worse than any other, whichever of the two stands first."""
    assert [rounding.number(sign * math.inf, 2, sign=True) for sign in (1, -1)] == ["+inf", "-inf"]
    assert rounding.number(math.inf, 2) == "inf"
    assert rounding.number(math.inf - math.inf, 2, sign=True) == "-"


@pytest.mark.parametrize(
    ("p", "text"), [(0.04321, "0.043"), (1e-9, "< 0.0001"), (1.0, "1"), (0.999, "1"), (None, "-")]
)
def test_probabilities(p, text):
    assert rounding.probability(p) == text
