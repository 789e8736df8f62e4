"""Schedules as values: what a mapping becomes, all its faults at once, and the way back."""

import json
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillars.cluster.ring import slot_of
from pillars.cron.definition import (
    Ambiguous,
    Catchup,
    Missing,
    Overlap,
    Schedule,
    ScheduleError,
    Timing,
    jitter_of,
    parse_schedule,
)
from pillars.queue.retry import RetryPolicy

LEAST = {"name": "a", "cron": "0 6 * * *", "job": "billing.send"}


def faults_of(**raw: Any) -> list[str]:
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(raw)
    return [str(fault) for fault in caught.value.faults]


def test_the_least_definition_takes_the_defaults_of_the_dataclasses() -> None:
    least = Schedule("a", Timing(cron="0 6 * * *"), "billing.send", cron_text="0 6 * * *")
    assert least == parse_schedule(LEAST)
    assert RetryPolicy() == parse_schedule({**LEAST, "retry": {}}).retry


def test_everything_can_be_said() -> None:
    actual = parse_schedule(
        {
            "name": "Rechnungen täglich",
            "cron": "H 6 * * mon-fri",
            "timezone": "Europe/Berlin",
            "job": "billing.send",
            "args": {"dry_run": False, "to": ["a", 1, 1.5, None, {"deep": True}]},
            "queue": "billing",
            "priority": -5,
            "catchup": "all",
            "catchup_window": "1d",
            "catchup_limit": 7,
            "overlap": "skip",
            "jitter": "30s",
            "dst": {"missing": "skip", "ambiguous": "both"},
            "start_at": "2026-01-01",
            "end_at": "2026-12-31T23:59:59+02:00",
            "enabled": False,
            "timeout": "1.5s",
            "retry": {"max_attempts": 3, "backoff": "linear", "base": "500ms", "max": "1m"},
        }
    )
    expected = Schedule(
        name="Rechnungen täglich",
        timing=Timing(
            cron=actual.timing.cron,
            timezone="Europe/Berlin",
            missing=Missing.SKIP,
            ambiguous=Ambiguous.BOTH,
            start_at=int(datetime(2025, 12, 31, 23, tzinfo=UTC).timestamp()),
            end_at=int(datetime(2026, 12, 31, 21, 59, 59, tzinfo=UTC).timestamp()),
        ),
        job="billing.send",
        args={"dry_run": False, "to": ["a", 1, 1.5, None, {"deep": True}]},
        queue="billing",
        priority=-5,
        catchup=Catchup.ALL,
        catchup_window=86_400,
        catchup_limit=7,
        overlap=Overlap.SKIP,
        jitter=30,
        enabled=False,
        timeout=1.5,
        retry=RetryPolicy(
            3, parse_schedule({**LEAST, "retry": {"backoff": "linear"}}).retry.backoff, 0.5, 60
        ),  # type: ignore[union-attr]
        cron_text="H 6 * * mon-fri",
    )
    assert expected == actual
    assert "h" not in (actual.timing.cron or "h").split()


@pytest.mark.parametrize(
    "written",
    [
        "2026-07-01T09:00:00",
        "2026-07-01 09:00",
        "2026-07-01T07:00:00Z",
        "2026-07-01t09:00:00 +02:00",
        "2026-07-01T09:00+0200",
        datetime(2026, 7, 1, 9),  # noqa: DTZ001
        datetime(2026, 7, 1, 8, tzinfo=timezone(timedelta(hours=1))),
    ],
)
def test_a_time_without_offset_is_in_the_timezone(written: object) -> None:
    parsed = parse_schedule({"name": "a", "job": "x", "at": written, "timezone": "Europe/Berlin"})
    assert int(datetime(2026, 7, 1, 7, tzinfo=UTC).timestamp()) == parsed.timing.at


def test_a_date_is_its_midnight() -> None:
    parsed = parse_schedule({"name": "a", "job": "x", "at": date(2026, 7, 1)})
    assert int(datetime(2026, 7, 1, tzinfo=UTC).timestamp()) == parsed.timing.at


def test_all_faults_are_told_at_once() -> None:
    assert [
        "crom: unknown key 'crom', did you mean 'cron'?",
        "name: 'name' must be text; put quotes round it",
        "job: the key 'job' is missing",
        "queue: 'queue' has no value",
        "dst.missing: 'missing' cannot be 'shft', did you mean 'shift'?",
        "give one of cron, every and at",
    ] == faults_of(crom="* * * * *", name=5, queue=None, dst={"missing": "shft"})


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ({"every": "5m"}, "every: give one of cron, every and at, not cron and every"),
        ({"phase": "5m"}, "phase: 'phase' has a meaning only beside 'every'"),
        ({"name": " a"}, "name: 'name' must not begin or end with a blank"),
        ({"name": ""}, "name: 'name' must have 1 to 200 characters, not 0"),
        ({"name": "x" * 201}, "name: 'name' must have 1 to 200 characters, not 201"),
        ({"name": "a\nb"}, "name: 'name' must not contain the character U+000A"),
        ({"name": "a\ud800"}, "name: 'name' must not contain the character U+D800"),
        ({"job": "send mail"}, "job: 'job' cannot be 'send mail'"),
        ({"job": "x\n"}, "job: 'job' cannot be 'x\\n'"),
        ({"queue": "-q"}, "queue: 'queue' cannot be '-q'"),
        ({"timezone": "Europe/Berln"}, "did you mean 'Europe/Berlin'?"),
        ({"timezone": "europe/berlin"}, "did you mean 'Europe/Berlin'?"),
        ({"timezone": "../etc/passwd"}, "is not an IANA time zone"),
        ({"priority": 40_000}, "priority: 'priority' must be -32768 to 32767"),
        ({"priority": True}, "priority: 'priority' must be a whole number, without quotes"),
        ({"enabled": "yes"}, "enabled: 'enabled' must be true or false"),
        ({"overlap": "skp"}, "did you mean 'skip'?"),
        ({"catchup": "sometimes"}, "write none, last, all"),
        ({"jitter": "1.5s"}, "jitter: 'jitter' must be whole seconds"),
        ({"timeout": 0}, "timeout: 'timeout' must be at least 0.001s"),
        ({"retry": 5}, "mapping with the keys max_attempts, backoff, base, max"),
        ({"retry": {"max_attempts": 0}}, "retry.max_attempts: 'max_attempts' must be 1 to 1000"),
        ({"args": [1]}, "args: 'args' must be a mapping"),
        ({"args": {"a": {5: 1}}}, "has the key 5; put quotes round it"),
        ({"args": {0: 1}}, "has the key 0; put quotes round it"),
        ({"args": {None: 1}}, "has the key None; put quotes round it"),
        ({"args": {"a": "x" * 70_000}}, "the limit is 65536"),
        ({"args": {"a": "\0"}}, "NUL"),
        ({"args": {"a": "\udc00"}}, "surrogate"),
        ({"args": {"a": float("nan")}}, "JSON does not know"),
        ({"args": {"a": 10**5000}}, "more than 100 digits"),
        ({"args": {"a": {1, 2}}}, "holds a set"),
        ({"args": {"a": date(2026, 1, 1)}}, "holds the date 2026-01-01"),
        ({"start_at": "2026-03-29T02:30", "timezone": "Europe/Berlin"}, "does not exist in Europe"),
        ({"start_at": "2026-10-25T02:30", "timezone": "Europe/Berlin"}, "comes twice in Europe"),
        ({"start_at": "2026-01-02", "end_at": "2026-01-01"}, "it would never fire"),
        ({"start_at": "tomorrow"}, "must be a time like 2026-12-01T09:00:00"),
        ({"start_at": "2026-02-30"}, "is no time"),
        ({"start_at": "1066-01-01"}, "must lie in the years 1970 to 2999"),
        ({"start_at": datetime(2026, 1, 1, microsecond=5)}, "whole second"),  # noqa: DTZ001
    ],
)
def test_a_fault_says_what_is_wrong(raw: dict[str, Any], fault: str) -> None:
    (only,) = faults_of(**{**LEAST, **raw})
    assert fault in only


def test_a_single_time_needs_no_bounds() -> None:
    faults = faults_of(name="a", job="x", at="2026-01-01", end_at="2027-01-01")
    assert ["end_at: 'end_at' has no use beside 'at', which fires once"] == faults


def test_a_phase_is_within_its_interval() -> None:
    faults = faults_of(name="a", job="x", every="5m", phase="5m")
    assert ["phase: 'phase' must be shorter than 'every', 300s"] == faults


def test_deeply_nested_arguments_are_refused_not_a_crash() -> None:
    nest: list[Any] = []
    for _ in range(100_000):
        nest = [nest]
    (fault,) = faults_of(**LEAST, args={"a": nest})
    assert "nested more than 32 deep" in fault
    # Python's own destructor copes with the depth; take it apart all the same.
    while nest:
        nest = nest.pop()


def test_something_else_than_a_mapping_is_refused() -> None:
    with pytest.raises(ScheduleError, match="must be a mapping"):
        parse_schedule(["a"])  # type: ignore[arg-type]


def test_arguments_are_the_schedules_own() -> None:
    given_args = {"to": ["a"]}
    schedule = parse_schedule({**LEAST, "args": given_args})
    given_args["to"].append("b")
    assert {"to": ["a"]} == schedule.args


def test_equal_timings_have_equal_texts() -> None:
    assert '{"cron":"0 6 * * *"}' == Timing(cron="0 6 * * *").encode()
    texts = {
        parse_schedule({**LEAST, "cron": cron}).timing.encode()
        for cron in ("0 0 * * *", "@daily", " 0 0  * * ?", "@midnight")
    }
    assert 1 == len(texts)
    assert Timing(cron="0 6 * * *").encode() != Timing(cron="0 6 * * *", timezone="CET").encode()


def test_decoding_gives_the_same_object() -> None:
    assert Timing.decode('{"every":60}') is Timing.decode('{"every":60}')


def test_what_dst_says_is_kept_only_where_it_matters() -> None:
    every = {"name": "a", "job": "x", "every": "5m"}
    assert parse_schedule(every) == parse_schedule({**every, "dst": {"missing": "skip"}})


def test_the_slot_is_that_of_the_ring() -> None:
    for number in range(1000):
        schedule = Schedule(f"s{number}", Timing(every=60), "x")
        assert slot_of(schedule.name) == schedule.slot
        assert 0 <= schedule.slot < 4096


def test_a_fingerprint_changes_with_anything() -> None:
    changes: list[dict[str, Any]] = [
        {}, {"name": "b"}, {"cron": "1 6 * * *"}, {"timezone": "CET"}, {"job": "x"},
        {"args": {"a": 1}}, {"args": {"a": True}}, {"args": {"a": "1"}}, {"queue": "q"},
        {"priority": 1}, {"catchup": "all"}, {"catchup_window": 0}, {"catchup_window": 5},
        {"catchup_limit": 5}, {"overlap": "skip"}, {"jitter": 5}, {"dst": {"missing": "skip"}},
        {"dst": {"ambiguous": "last"}}, {"start_at": "2026-01-01"}, {"end_at": "2026-01-01"},
        {"enabled": False}, {"timeout": 5}, {"retry": {}}, {"retry": {"base": "5s"}},
    ]  # fmt: skip
    prints = {parse_schedule({**LEAST, **change}).fingerprint() for change in changes}
    assert len(changes) == len(prints)
    assert parse_schedule(LEAST).fingerprint() == parse_schedule(dict(LEAST)).fingerprint()


def test_a_fingerprint_changes_when_h_comes_to_mean_another_time() -> None:
    schedule = parse_schedule({**LEAST, "cron": "H 6 * * *"})
    moved = replace(schedule, timing=replace(schedule.timing, cron="60 6 * * *"))
    assert schedule.as_dict() == moved.as_dict()
    assert schedule.fingerprint() != moved.fingerprint()


def test_jitter_is_fixed_by_schedule_and_tick() -> None:
    assert 0 == jitter_of("a", 1000, 0)
    assert jitter_of("a", 1000, 30) == jitter_of("a", 1000, 30)
    values = [jitter_of("a", tick, 30) for tick in range(0, 600_000, 60)]
    assert 0 <= min(values) < 0.1
    assert 29.9 < max(values) < 30
    assert 14.5 < sum(values) / len(values) < 15.5
    assert all(round(value * 1000) / 1000 == value for value in values)


instants = st.integers(0, int(datetime(2900, 1, 1, tzinfo=UTC).timestamp()))
moments = instants.map(lambda at: datetime.fromtimestamp(at, UTC).isoformat())
words = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.:-]{0,20}\Z")
durations = st.one_of(st.integers(0, 10**6), st.sampled_from(["15m", "1h30m", "1d"]))
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
whens = st.one_of(
    st.sampled_from(["0 6 * * *", "H H * * mon-fri", "@hourly", "*/5 * * * * *", "0 0 L * ?"]).map(
        lambda cron: {"cron": cron}
    ),
    st.integers(1, 10**6).map(lambda every: {"every": every}),
    st.integers(2, 10**6).map(lambda every: {"every": every, "phase": every // 2}),
    moments.map(lambda at: {"at": at}),
)
definitions = st.builds(
    lambda when, others: {**when, **others},
    whens,
    st.fixed_dictionaries(
        {
            "name": st.from_regex(r"\A[ -~]*[!-~][ -~]*\Z")
            .map(str.strip)
            .filter(bool)
            .map(lambda name: name[:200].strip()),
            "job": words,
        },
        optional={
            "timezone": st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia"]),
            "args": st.dictionaries(words, plain, max_size=3),
            "queue": words,
            "priority": st.integers(-32768, 32767),
            "catchup": st.sampled_from(["none", "last", "all"]),
            "catchup_window": durations,
            "catchup_limit": st.integers(1, 1000),
            "overlap": st.sampled_from(["allow", "skip"]),
            "jitter": durations,
            "dst": st.fixed_dictionaries(
                {},
                optional={
                    "missing": st.sampled_from(["shift", "skip"]),
                    "ambiguous": st.sampled_from(["first", "last", "both"]),
                },
            ),
            "enabled": st.booleans(),
            "timeout": st.floats(0.001, 10**6),
            "retry": st.fixed_dictionaries(
                {}, optional={"max_attempts": st.integers(1, 9), "base": st.floats(0, 1000)}
            ),
        },
    ),
)


@settings(max_examples=150, deadline=None)
@given(definitions)
def test_what_is_shown_reads_back_as_the_same(raw: dict[str, Any]) -> None:
    schedule = parse_schedule(raw)
    shown = json.loads(json.dumps(schedule.as_dict()))
    again = parse_schedule(shown)
    assert schedule == again
    assert schedule.fingerprint() == again.fingerprint()
    assert schedule.timing == Timing.decode(schedule.timing.encode())


def test_the_round_trip_covers_every_key() -> None:
    known = {each.name for each in fields(Schedule)} | {each.name for each in fields(Timing)}
    not_keys = {"timing", "missing", "ambiguous", "cron_text"}
    # start_at and end_at exclude `at`, and are in the example above.
    parsed = parse_schedule({**LEAST, "start_at": "2026-01-01", "end_at": "2026-01-02T00:00:01Z"})
    assert parsed == parse_schedule(parsed.as_dict())
    assert {"name", "job", "cron", "every", "at", "phase"} < known - not_keys
