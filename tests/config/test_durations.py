import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resjax.config import ConfigError
from resjax.config.durations import Clock


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        ("64000 steps", 64_000),
        ("1 step", 1),
        ("15 epochs", 337),  # 15 * 1437 / 64 = 336.8
        ("0.5 epochs", 12),
        ("1e6 examples", 15_625),
        ("50%", 169),  # of 337
        ("0 steps", 0),
    ],
)
def test_durations_in_every_unit(duration, steps):
    assert Clock(1437, 64, 337).steps(duration) == steps


@pytest.mark.parametrize(
    "text", ["", "15", "epochs", "-1 epochs", "15 days", "nan steps", "1/0 steps"]
)
def test_a_duration_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="write '15 epochs', '64000 steps'"):
        Clock(1437, 64, 337).steps(text)


@given(examples=st.integers(1, 500), batch=st.integers(1, 500), epochs=st.integers(1, 9))
def test_marks_fall_where_each_epoch_is_complete(examples, batch, epochs):
    total = Clock(examples, batch).steps(f"{epochs} epochs")
    marks = Clock(examples, batch, total).marks("1 epoch")
    assert marks[-1] == total
    assert marks == sorted(set(marks))
    assert set(marks) == {math.ceil(e * examples / batch) for e in range(1, epochs + 1)}


def test_a_clock_that_knows_no_length_says_so():
    with pytest.raises(ValueError, match="make one with total_steps"):
        Clock(1437, 64).marks("1 epoch")
