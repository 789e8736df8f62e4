"""Cron expressions: what is accepted, what it becomes, and what advice the rest gets."""

import math
from collections import Counter
from time import process_time

import pytest

from pillars.cron.dial import dial
from pillars.cron.expression import parse_cron
from pillars.cron.faults import ScheduleError


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  0   6 * * MON-FRI ", "0 6 * * mon-fri"),
        ("@daily", "0 0 * * *"),
        ("@Hourly", "0 * * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@annually", "0 0 1 1 *"),
        ("0 0 ? * L5", "0 0 * * l5"),
        ("0 0 15W * *", "0 0 15w * *"),
        ("0 0 L * ?", "0 0 l * *"),
        ("0 0 * * fri#2", "0 0 * * fri#2"),
        ("*/15 * * * * *", "*/15 * * * * *"),
        ("0 0 * jan,jul *", "0 0 * jan,jul *"),
    ],
)
def test_an_expression_has_one_normal_form(text: str, normal: str) -> None:
    assert normal == parse_cron(text, name="x").text


def test_six_fields_put_the_seconds_first() -> None:
    face = dial(parse_cron("30 1 2 * * *", name="x").text)
    assert 2 * 3600 + 60 + 30 == face.next(0)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("* * * *", "has 4 fields; write five"),
        ("* * * * * * *", "years are not supported: use start_at and end_at"),
        ("60 * * * *", "60 is out of range, minutes are 0 to 59"),
        ("0 24 * * *", "hours are 0 to 23"),
        ("0 0 0 * *", "day of months are 1 to 31"),
        ("0 0 * 13 *", "months are 1 to 12"),
        ("0 0 * * 8", "weekdays are 0 to 7"),
        ("*/61 * * * *", "write 'every: 61m'"),
        ("0 */36 * * *", "write 'every: 36h'"),
        ("*/0 * * * *", "a step cannot be 0"),
        ("5-5 * * * *", "5-5 would mean every minute; write 5"),
        ("0 0 * * sun-sun", "write 0 for one"),
        ("0 0 * * 7-0", "write 7 for one"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,6 *", "never fires"),
        ("0 0 31 2 mon", "never fires"),
        ("R * * * *", "write H"),
        ("R(0-5) * * * *", "write H"),
        ("0 0 H(1-31) * *", "31 is out of range"),
        ("H(9-5) * * * *", "write H(5-9)"),
        ("H/0 * * * *", "a step cannot be 0"),
        ("H/61 * * * *", "write 'every: 61m'"),
        ("? * * * *", "? is for day and weekday only"),
        ("0 0 * jam *", "did you mean 'jan'?"),
        ("0 0 * * fryday", "did you mean 'fri'?"),
        ("0 0 * * 5L", "write L5"),
        ("0 0 * * friL", "write L5"),
        ("0 0 * * fri#6", "1 to 5"),
        ("0 0 * * fri#L", "write L5"),
        ("0 0 15W,20 * *", "W stands alone"),
        ("0 0 LW * *", "W follows one day"),
        ("0 0 L-3 * *", "L stands alone"),
        ("0 0 * * mon,fri#2", "write two schedules"),
        ("0 0 1 * mon#1", "write two schedules"),
        ("0 0 15W * mon", "write two schedules"),
        ("0 0 1 * L5", "write two schedules"),
        ("1,,2 * * * *", "nothing between two commas"),
        ("1- * * * *", "is not a value"),
        ("@dayly", "did you mean '@daily'?"),
        ("@reboot", "@reboot is not supported"),
        ("@every 5m", "write 'every: 5m'"),
        ("0 0 * * mon\u00a0", "U+00A0"),
        ("\u0665 0 * * *", "U+0665"),
        ("0 0\n* * *", "U+000A"),
        ("", "has 0 fields"),
        ("9" * 200 + " * * * *", "out of range"),
        ("*/" + "9" * 200 + " * * * *", "longer than the hour"),
        ("0," * 70_000 + "0 * * * *", "the limit is 256"),
    ],
)
def test_a_refusal_says_what_to_write(text: str, advice: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse_cron(text, name="x")
    assert advice in str(caught.value)


def test_all_bad_fields_are_told_at_once() -> None:
    with pytest.raises(ScheduleError) as caught:
        parse_cron("61 25 * * *", name="x")
    assert ["cron", "cron"] == [fault.key for fault in caught.value.faults]


def test_refusals_are_quick() -> None:
    begin = process_time()
    for text in ("0 0 30 2 *", "0 0 31 2,4,6,9,11 mon", "0," * 100_000, ",".join(["1-59"] * 60)):
        with pytest.raises(ScheduleError):
            parse_cron(text, name="x")
    assert process_time() - begin < 1


@pytest.mark.parametrize(
    ("text", "lint"),
    [
        ("0 0 13 * fri", "fires when either matches"),
        (
            "*/7 * * * *",
            "starts over with each hour: steps differ; for that pace write 'every: 7m'",
        ),
        ("H/7 * * * *", "minute H/7 starts over"),
        ("0 0 */2 * *", "starts over with each month"),
        ("0 22-6 * * *", "wraps round: 22 to 23, then 0 to 6"),
        ("0 0 * nov-feb *", "wraps round"),
        ("59/15 * * * *", "matches 59 only"),
        ("10-20/15 * * * *", "matches 10 only"),
        ("* 3 * * *", "write '0 3'"),
        ("* 0 3 * * *", "each second"),
        ("0 0 31 * *", "write L"),
    ],
)
def test_a_likely_slip_is_a_lint(text: str, lint: str) -> None:
    assert [True] == [lint in found for found in parse_cron(text, name="x").lints]


@pytest.mark.parametrize(
    "text",
    ["*/15 * * * *", "0 9-17 * * mon-fri", "0 0 * * fri-mon", "0 0 * * 0-7", "0 0 29 2 *",
     "H H * * *", "0 0 L * *", "*/5 * * * * *", "H/15 H(9-17) * * *", "0 0 * * sat-sun",
     "5/20 * * * *"],
)  # fmt: skip
def test_what_is_fine_has_no_lint(text: str) -> None:
    assert () == parse_cron(text, name="x").lints


def test_h_reaches_every_minute_of_the_day_evenly() -> None:
    texts = (parse_cron("H H * * *", name=f"schedule-{number}").text for number in range(30_000))
    minutes = Counter(texts)
    assert 1440 == len(minutes)
    assert max(minutes.values()) <= 3 * 30_000 / 1440


def test_h_is_chosen_for_each_field_by_itself() -> None:
    pairs = Counter(parse_cron("H H 3 * * *", name=f"s{number}").text for number in range(7200))
    # Of 3,600 pairs, 7,200 throws of two dice that know nothing of each other reach 86 %.
    assert len(pairs) > 0.95 * 3600 * (1 - math.exp(-2))


def test_h_stays_within_what_every_month_has() -> None:
    days = {int(parse_cron("0 0 H * *", name=f"s{n}").text.split()[2]) for n in range(2000)}
    assert set(range(1, 29)) == days


def test_h_keeps_its_range_and_pace() -> None:
    for number in range(500):
        minute, hour, *_ = parse_cron("H/15 H(9-17) * * *", name=f"s{number}").text.split()
        first, rest = minute.split("-")
        assert int(first) < 15
        assert "59/15" == rest
        assert 9 <= int(hour) <= 17


def test_h_with_a_step_at_its_last_value_is_that_value_alone() -> None:
    texts = {parse_cron("H(0-5)/6 * * * *", name=f"s{n}").text.split()[0] for n in range(200)}
    assert {"0", "1", "2", "3", "4", "5"} == texts


def test_h_is_the_same_each_time() -> None:
    assert "15 16 * * *" == parse_cron("H H * * *", name="bill").text
