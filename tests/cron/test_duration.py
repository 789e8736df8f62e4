"""Durations: what people write, what is refused, and the way back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillars.cron.duration import LONGEST, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15m", 900),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1d", 86400),
        ("2w", 1209600),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("0s", 0),
        (90, 90),
        (0.25, 0.25),
    ],
)
def test_a_duration_reads_as_seconds(text: object, seconds: float) -> None:
    assert seconds == parse_duration(text)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("15", "did you mean '15s'?"),
        ("15min", "did you mean '15m'?"),
        ("15M", "did you mean '15m'?"),
        ("2 hours", "did you mean '2h'?"),
        ("3 fortnights", "there is no unit 'fortnights'"),
        ("-5m", "cannot be negative"),
        ("", "write it like 15m or 1d"),
        ("1m\n", None),
        ("9" * 400 + "s", "is not a duration"),
        ("99999d", "out of range"),
        (-1, "out of range"),
        (10**400, "out of range"),
        (float("nan"), "out of range"),
        (True, "must be a duration"),
        (None, "must be a duration"),
        (["1m"], "must be a duration"),
    ],
)
def test_a_fault_says_what_to_write(text: object, advice: str | None) -> None:
    if advice is None:
        assert parse_duration(text) == 60
        return
    with pytest.raises(ValueError, match=r".+") as caught:
        parse_duration(text)
    assert advice in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (900, "15m"),
        (5400, "1h30m"),
        (86400, "1d"),
        (1.5, "1s500ms"),
        (90061, "1d1h1m1s"),
    ],
)
def test_seconds_are_written_short(seconds: float, text: str) -> None:
    assert text == format_duration(seconds)


@given(st.integers(0, LONGEST * 1000))
def test_what_is_written_reads_back(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert seconds == parse_duration(format_duration(seconds))
