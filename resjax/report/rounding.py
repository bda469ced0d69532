"""Numbers as text, rounded to their significant digits."""

import math

DECIMALS_OF_A_PERCENT = 2
"""Decimals of an error in percent whose uncertainty is unknown or zero."""

DECIMALS_OF_A_LOSS = 4
"""Decimals of a loss whose uncertainty is unknown or zero."""


def decimals(uncertainty: float | None, otherwise: int = DECIMALS_OF_A_PERCENT) -> int:
    """The number of decimals for an uncertainty, by the rule of the Particle Data Group.

    By its first three digits the uncertainty has two digits from 100 to 354, one from 355 to 949,
    and is rounded up to 1000, with two digits, above.
    """
    if not uncertainty or not math.isfinite(uncertainty):
        return otherwise
    digits, exponent = f"{uncertainty:.2e}".split("e")
    first_three = round(100 * float(digits))
    kept = 1 if 355 <= first_three < 950 else 2
    return max(0, kept - 1 - int(exponent) - (first_three >= 950))


def number(value: float | None, places: int, sign: bool = False) -> str:
    """Formats a number with this many decimals, never as a negative zero; "-" for none.

    NaN is none, too: the difference of two infinite errors is no number.
    """
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:+.{places}f}" if sign else f"{value:.{places}f}"
    return text.lstrip("+-") if not float(text) else text


def with_deviation(mean: float | None, deviation: float | None, otherwise: int) -> str:
    """Text such as "6.61 ± 0.16"; the mean alone where there is no deviation.

    >>> with_deviation(6.6132, 0.1603, otherwise=2)
    '6.61 ± 0.16'
    """
    places = decimals(deviation, otherwise)
    if deviation is None or mean is None:
        return number(mean, places)
    return f"{number(mean, places)} ± {number(deviation, places)}"


def interval(ends: tuple[float, float] | None, otherwise: int, sign: bool = False) -> str:
    """Text such as "6.41 to 6.81", rounded to half its width; "-" for none."""
    return span(ends, decimals_of(ends, otherwise), sign)


def decimals_of(ends: tuple[float, float] | None, otherwise: int = DECIMALS_OF_A_PERCENT) -> int:
    """The number of decimals for an interval: those of half its width.

    There are more where an interval without zero would have an end that is rounded to zero.
    """
    if ends is None:
        return otherwise
    places = decimals((ends[1] - ends[0]) / 2, otherwise)
    nearest = max(ends[0], -ends[1])  # negative if the interval holds zero
    shown = (more for more in range(places, DECIMALS_OF_A_LOSS + 1) if nearest * 10**more > 0.5)
    return next(shown, places)


def span(ends: tuple[float, float] | None, places: int, sign: bool = False) -> str:
    """Formats two numbers with this many decimals; "-" for none."""
    return "-" if ends is None else " to ".join(number(end, places, sign) for end in ends)


def probability(p: float | None) -> str:
    """Formats a p value with two digits, or as "< 0.0001" below that; "-" for none."""
    if p is None:
        return "-"
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}" if p < 0.995 else "1"
