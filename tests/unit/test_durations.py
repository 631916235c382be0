"""Durations: what people write, and that what we write back means the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from master.durations import LONGEST, UNITS, format_duration, parse_duration


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0),
        (90, 90),
        (0.5, 0.5),
        ("0s", 0),
        ("90s", 90),
        ("15m", 900),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("30d", 30 * 86400),
        ("2w", 14 * 86400),
        ("1y", 365 * 86400),
    ],
)
def test_reads_what_people_write(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    [
        "",
        " ",
        "90",
        "s",
        "5 parsecs",
        "-1s",
        "1h-",
        "1H",
        "१s",
        -1,
        True,
        None,
        [],
        float("nan"),
        float("inf"),
        "101y",
        1e30,
    ],
)
def test_refuses_everything_else(written: object) -> None:
    with pytest.raises(ValueError, match=r"duration|century"):
        parse_duration(written)


@given(st.integers(min_value=0, max_value=LONGEST))
def test_what_is_written_back_means_the_same(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from(sorted(UNITS))), min_size=1, max_size=4))
def test_parts_add_up(parts: list[tuple[int, str]]) -> None:
    total = sum(number * UNITS[unit] for number, unit in parts)
    text = "".join(f"{number}{unit}" for number, unit in parts)
    if total <= LONGEST:
        assert parse_duration(text) == total
