"""Random numbers of the host that no release of NumPy may change.

They are raw output of the Philox generator, which NumPy promises to keep; the numbers that
`numpy.random.Generator` makes of it may differ between releases.
"""

from collections.abc import Sequence

import numpy as np

ORDER, VIEW, MIXING = 0, 1, 2
"""Last words of the counters from which the order of an epoch, the views of its images and their
mixing are drawn, so that one key, the seed and the epoch, serves all three."""


def random_words(
    key: tuple[int, int], number: int, counter: Sequence[int] = (0, 0, 0, ORDER)
) -> np.ndarray:
    """Random words `[number]` uint64, four for each value of the counter from the given one on."""
    return np.random.Philox(key=key, counter=counter).random_raw(number)


def to_unit_interval(words: np.ndarray) -> np.ndarray:
    """Uniform numbers float64 in [0, 1), of the upper 53 bits of random words."""
    return (words >> np.uint64(11)) * 2.0**-53
