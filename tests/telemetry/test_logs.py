from __future__ import annotations

import io
import json
import logging
import re
from collections import Counter
from contextvars import copy_context
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pillars.ground.events import (
    ChildEnded,
    DatabaseReached,
    DatabaseStarted,
    DatabaseStopped,
    DatabaseUnreachable,
    Event,
    Events,
    FinishRefused,
    HeartbeatSent,
    JobFinished,
    JobLost,
    JobsFinished,
    JobsPruned,
    JobsRescued,
    JobsReturned,
    JobStopping,
    LoopFailed,
    LoopRecovered,
    MemberExpelled,
    MemberJoined,
    MemberLeft,
    MembershipLost,
    MigrationApplied,
    PassCompleted,
    ProcessesStarted,
    ProcessStarted,
    ProcessStopped,
    ProcessStopping,
    RingMoved,
    RingSeen,
    ScheduleBroken,
    SchedulesApplied,
    SchedulesRefused,
    SchedulesWaiting,
    SchedulesWarned,
    SystemStarted,
    TickFired,
    TicksFired,
)
from pillars.queue.attempt import Job
from pillars.queue.states import JobId
from pillars.telemetry.keys import ALWAYS, markdown_table
from pillars.telemetry.logs import LINES_PER_SECOND, LogListener, configure_logging
from pillars.telemetry.phrases import duration, ended
from pillars.telemetry.redaction import redact
from pillars.telemetry.wording import Worded, worded, words_for
from pillars.worker.context import JobContext, enter_job
from tests.helpers import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
TIME = re.compile(r"\d\d:\d\d:\d\d\.\d\d\d ")


EXAMPLES: tuple[Worded, ...] = (
    ProcessStarted("cron", "alpha", "1", "http://127.0.0.1:9000"),
    ProcessStopping("cron", "alpha", "SIGTERM"),
    ProcessStopped("cron", "alpha"),
    SystemStarted("http://127.0.0.1:8000", 3, 2, "schedules", "pillars.example:app"),
    ChildEnded("cron", "alpha", 12, -9, 0.5),
    ProcessesStarted("alpha", 4, "http://127.0.0.1:9000"),
    LoopFailed("ticker", "boom", 1, 0.1),
    LoopRecovered("ticker", 3),
    DatabaseStarted(".pillars", "postgres"),
    DatabaseStopped(".pillars"),
    DatabaseUnreachable("x at db:5432", "refused", 1, 0.0),
    DatabaseReached("x at db:5432", 1),
    MigrationApplied(1, "initial"),
    MemberJoined("worker", "w", "1", 0, 0),
    RingSeen(7, 1365, 100, 20),
    RingMoved(7, "join", 1365),
    MemberExpelled("worker", "w", "1", "silent", 6.2, 3),
    MembershipLost("cron", "alpha", "1"),
    MemberLeft("cron", "alpha", "1"),
    SchedulesApplied(3, "abcdef0123", 1, 0, 2, 10, ("a", "b", "c")),
    SchedulesRefused("schedules", ("a.yaml:1: unknown key",)),
    SchedulesWarned(("a.yaml:1: fires every second",)),
    SchedulesWaiting("abcdef0123", "0123abcdef", 1),
    ScheduleBroken(3, "no such timezone", 60.0),
    TickFired("daily", NOON, 7, "mail", "skipped", "overlap: skip"),
    JobFinished(1, "mail", "default", 1, "cancelled", 0.1, None, None, None),
    JobFinished(1, "mail", "default", 1, "snoozed", 0.1, None, "closed", 60.0),
    JobFinished(1, "mail", "default", 1, "unknown", 0.0, None, "job type 'mail' is unknown", 30.0),
    JobFinished(1, "mail", "default", 1, "succeeded", 0.1, None, "the result was not stored", None),
    JobLost(1, "mail", "default", 5, None),
    JobStopping(1, "mail", "cancelled by command"),
    FinishRefused((7, 8)),
    JobsRescued(3),
    JobsReturned(4),
    JobsPruned(5000),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def emit(clock: FakeClock) -> Events:
    events = Events()
    LogListener(events, clock)
    return events


@pytest.fixture
def text() -> io.StringIO:
    stream = io.StringIO()
    configure_logging("text", "cron", "alpha", stream=stream)
    return stream


@pytest.fixture
def machine() -> io.StringIO:
    stream = io.StringIO()
    configure_logging("json", "cron", "alpha", stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[str]:
    """The lines without their time."""
    return [TIME.sub("", line, count=1) for line in stream.getvalue().splitlines()]


def said(stream: io.StringIO) -> list[str]:
    """The lines without time and speaker."""
    return [line.removeprefix("cron/alpha  ") for line in lines(stream)]


def objects(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def documented() -> dict[str, list[str]]:
    """The keys of each event by the table of the README."""
    rows = (row.strip("| ").split(" | ") for row in markdown_table().splitlines()[2:])
    return {event.strip("`"): keys.split(", ") for event, keys, _ in rows}


def held(event: Worded) -> Event:
    """What is emitted: one of a batch comes in the event that holds it."""
    match event:
        case TickFired():
            return ticks(event)
        case JobFinished():
            return JobsFinished((event,))
    return event


def finished(
    outcome: str = "succeeded",
    error: str | None = None,
    *,
    type: str = "mail.welcome",  # noqa: A002 - the field's name
    attempt: int = 1,
    schedule: str | None = None,
    retry_in: float | None = None,
) -> JobsFinished:
    job = JobFinished(12, type, "mail", attempt, outcome, 0.0123, schedule, error, retry_in)
    return JobsFinished((job,))


def log_error(logger: str, error: Exception, message: str, *args: object) -> None:
    try:
        raise error
    except type(error):
        logging.getLogger(logger).exception(message, *args)


def ticks(*each: TickFired, swept: bool = False, late: float = 0.0, **outcomes: int) -> TicksFired:
    outcomes = outcomes or Counter(tick.outcome for tick in each)
    return TicksFired(10, outcomes, (late,), 0, swept, ticks=each)


# ---- for people


def test_an_event_is_one_line_that_says_when_who_and_what(emit: Events, text: io.StringIO) -> None:
    emit(MemberJoined("cron", "alpha", "1", slots=1365, ring_version=7))

    assert TIME.match(text.getvalue())
    assert lines(text) == ["cron/alpha  joined with 1,365 slots (ring 7)"]


def test_what_happens_many_times_a_second_is_no_line(emit: Events, text: io.StringIO) -> None:
    emit(HeartbeatSent(0.001))
    emit(PassCompleted(0.001, 0))

    assert lines(text) == []


def test_a_tick_tells_which_job_it_is(emit: Events, text: io.StringIO) -> None:
    skipped = TickFired("tidy", NOON, 8, "default", "skipped", "overlap: skip, and it runs yet")
    emit(ticks(TickFired("daily", NOON, 7, "mail", "enqueued", None), skipped))

    assert said(text) == [
        "tick 2030-01-01 12:00:00Z of daily is job 7 on queue mail",
        "tick 2030-01-01 12:00:00Z of tidy is skipped (job 8): overlap: skip, and it runs yet",
    ]


def test_a_flood_of_ticks_becomes_one_line_a_second(
    emit: Events,
    clock: FakeClock,
    text: io.StringIO,
) -> None:
    for job_id in range(LINES_PER_SECOND + 1):
        emit(ticks(TickFired("daily", NOON, job_id, "mail", "enqueued", None)))
    emit(ticks(enqueued=1000, skipped=2))
    clock.advance(1)
    emit(ticks())

    assert said(text)[LINES_PER_SECOND:] == [
        "… and 1,001 more ticks put on the queue",
        "… and 2 more ticks skipped",
    ]


def test_jobs_tell_how_they_ended(emit: Events, text: io.StringIO) -> None:
    emit(finished(schedule="digest-daily"))
    emit(finished("failed", "boom\n  at line 3", attempt=2, retry_in=0.009))
    emit(finished("dead", attempt=5))

    assert said(text) == [
        "job 12 mail.welcome succeeded in 12 ms (schedule digest-daily)",
        "WARNING: job 12 mail.welcome failed after 12 ms, attempt 2: boom; retry in 9 ms",
        "ERROR: job 12 mail.welcome dead after 12 ms, attempt 5: no reason given",
    ]


def test_a_flood_of_jobs_becomes_one_line_a_second(
    emit: Events,
    clock: FakeClock,
    text: io.StringIO,
) -> None:
    for _ in range(LINES_PER_SECOND + 1234):
        emit(finished())
    emit(finished("failed", "boom", retry_in=1.0))
    in_the_first_second = len(lines(text))
    clock.advance(1)
    emit(finished())

    assert in_the_first_second == LINES_PER_SECOND + 1
    assert said(text)[in_the_first_second:] == [
        "… and 1,234 more jobs succeeded",
        "job 12 mail.welcome succeeded in 12 ms",
    ]


async def test_the_last_second_of_a_flood_is_told_of_by_the_timer(
    clock: FakeClock,
    text: io.StringIO,
) -> None:
    emit = Events()
    listener = LogListener(emit, clock)
    for _ in range(LINES_PER_SECOND + 1):
        emit(finished("failed", "boom", retry_in=1.0))
    clock.advance(1)

    delay = await listener.step()
    await listener.step()

    assert delay == 1.0
    assert said(text)[LINES_PER_SECOND:] == ["WARNING: … and 1 more job failed"]


def test_the_end_of_a_process_leaves_nothing_untold(emit: Events, text: io.StringIO) -> None:
    for _ in range(LINES_PER_SECOND + 2):
        emit(finished())
    emit(ProcessStopped("cron", "alpha"))

    assert said(text)[-2:] == ["… and 2 more jobs succeeded", "stopped"]


def test_ticks_that_others_should_have_fired_are_told_of_once_a_second_and_how_late(
    emit: Events,
    clock: FakeClock,
    text: io.StringIO,
) -> None:
    emit(ticks(TickFired("daily", NOON, 7, "mail", "enqueued", None), swept=True))
    clock.advance(1)
    emit(ticks(swept=True, late=0.5, enqueued=1000))
    emit(ticks(swept=True, late=2.5, enqueued=1000))
    clock.advance(1)
    emit(ticks())

    assert said(text)[1:] == [
        "enqueued 1 tick in place of their owners, none of them late",
        "enqueued 2,000 ticks in place of their owners, the latest 2.5 s late",
    ]


def test_missed_ticks_are_told_of_once_a_second(
    emit: Events,
    clock: FakeClock,
    text: io.StringIO,
) -> None:
    emit(ticks(TickFired("daily", NOON, 7, "mail", "missed", "cron was down; catchup: none")))
    emit(ticks(missed=2))
    clock.advance(1)
    emit(ticks())

    assert said(text) == [
        "WARNING: recorded 3 ticks as missed, as the schedules' catch-up rule says",
    ]


def test_a_loop_that_fails_on_and_on_is_told_of_ever_more_rarely(
    emit: Events,
    text: io.StringIO,
) -> None:
    for failures in range(1, 1001):
        emit(LoopFailed("ticker", "connection refused", failures, 0.5))

    assert len(lines(text)) == 10
    assert said(text)[:2] == [
        "WARNING: ticker failed: connection refused; retry in 500 ms",
        "WARNING: ticker failed, 2 times in a row: connection refused; retry in 500 ms",
    ]


def test_text_of_others_cannot_forge_lines_or_steer_the_terminal(
    emit: Events,
    text: io.StringIO,
) -> None:
    emit(finished("dead", "a\x1b[2Jb\rc", type="x\n12:00:00.000 cron/alpha  stopped"))

    (line,) = lines(text)
    assert "x\\n12:00:00.000" in line
    assert "a\\x1b[2Jb\\rc" in line


def test_a_new_share_of_the_ring_shows_what_changed(emit: Events, text: io.StringIO) -> None:
    emit(RingSeen(version=2, slots=2048, gained=0, lost=2048))
    emit(RingSeen(version=3, slots=2050, gained=5, lost=3))

    assert said(text) == [
        "owns 2,048 slots (-2,048, ring 2)",
        "owns 2,050 slots (+5, -3, ring 3)",
    ]


def test_long_lists_are_cut(emit: Events, text: io.StringIO) -> None:
    emit(SchedulesRefused(".", tuple("012345678")))
    emit(FinishRefused((7,)))

    assert said(text) == [
        "ERROR: schedules in . refused, the old ones stay: 9 faults: 0; 1; 2; 3; 4; and 4 more",
        "WARNING: dropped late results of 1 job (7): given to another worker meanwhile",
    ]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.00085, "850 µs"),
        (0.012, "12 ms"),
        (3.44, "3.4 s"),
        (0.9996, "1.0 s"),
        (59.97, "1m 0s"),
        (125, "2m 5s"),
        (3780, "1h 3m"),
        (187_200, "2d 4h"),
    ],
)
def test_durations_are_written_as_people_do(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_colours_are_for_terminals_that_want_them(
    emit: Events,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = []
    for no_colour, stream in (("", Terminal()), ("1", Terminal()), ("", io.StringIO())):
        monkeypatch.setenv("NO_COLOR", no_colour)
        monkeypatch.setenv("TERM", "xterm")
        configure_logging("text", "cron", "alpha", stream=stream)
        emit(ProcessStopped("cron", "alpha"))
        shown.append("\x1b[" in stream.getvalue())

    assert shown == [True, False, False]


# ---- for machines


def test_an_event_is_one_object_with_its_fields(emit: Events, machine: io.StringIO) -> None:
    emit(finished("failed", "boom\nat line 3", retry_in=30.0))

    (line,) = objects(machine)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("ts"))
    assert line == {
        "level": "warning",
        "logger": "pillars",
        "event": "JobFinished",
        "role": "cron",
        "name": "alpha",
        "message": "job 12 mail.welcome failed after 12 ms, attempt 1: boom; retry in 30.0 s",
        "job_id": 12,
        "type": "mail.welcome",
        "queue": "mail",
        "attempt": 1,
        "outcome": "failed",
        "seconds": 0.0123,
        "schedule": None,
        "error": "boom\nat line 3",
        "retry_in": 30.0,
        "fire_at": None,
        "trace_id": None,
    }


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_a_line_has_the_keys_that_are_documented(machine: io.StringIO, event: Worded) -> None:
    emit = Events()
    LogListener(emit, FakeClock())
    logging.getLogger().setLevel(logging.DEBUG)

    emit(held(event))

    (line,) = objects(machine)
    assert line["event"] == type(event).__name__
    assert [*line] == [*ALWAYS, *documented()[type(event).__name__]]


def test_a_count_has_the_keys_that_are_documented(emit: Events, machine: io.StringIO) -> None:
    emit(finished())
    for _ in range(LINES_PER_SECOND):
        emit(finished())
    emit(ticks(swept=True, enqueued=100))
    emit(ProcessStopped("cron", "alpha"))

    counts = [line for line in objects(machine) if "count" in line]
    keys = {line["event"]: {*line} for line in counts}
    assert keys == {
        event: {*ALWAYS, *documented()[event]} for event in ("JobsFinished", "TicksFired")
    }


def test_an_event_about_another_member_keeps_the_speakers_name(
    emit: Events,
    machine: io.StringIO,
) -> None:
    emit(MemberExpelled("worker", "beta", "1", "silent", 6.2, 3))

    (line,) = objects(machine)
    assert [line[key] for key in ("role", "name", "member_role", "member_name")] == [
        "cron",
        "alpha",
        "worker",
        "beta",
    ]


def test_a_traceback_stays_in_its_object(machine: io.StringIO) -> None:
    log_error("aiohttp.server", ValueError("password=hunter2"), "Error handling request")

    (line,) = objects(machine)
    assert line["message"] == "Error handling request"
    assert line["traceback"].endswith("ValueError: password=***")


# ---- everybody's records


def test_warnings_of_libraries_come_through_the_same_handler(text: io.StringIO) -> None:
    logging.getLogger("psycopg.pool").warning("error connecting in %r", "pool-1")
    logging.getLogger("aiohttp.access").info("GET / 200")
    logging.getLogger("shop.mail").info("sent")

    assert said(text) == [
        "WARNING: error connecting in 'pool-1' [psycopg.pool]",
        "sent [shop.mail]",
    ]


def test_a_librarys_slip_in_its_format_costs_nobody_anything(text: io.StringIO) -> None:
    logging.getLogger("careless").warning("%d apples", "many")

    assert said(text) == ["WARNING: %d apples ('many',) [careless]"]


def test_configuring_again_replaces_the_handler(text: io.StringIO, emit: Events) -> None:
    again = io.StringIO()
    configure_logging("text", "cron", "beta", stream=again)
    emit(ProcessStopped("cron", "beta"))

    assert said(text) == []
    assert lines(again) == ["cron/beta  stopped"]


# ---- secrets


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("postgresql://me:hunter2@db:5432/x", "postgresql://me:***@db:5432/x"),
        ("postgres://me:hun@ter:2@db/x and more", "postgres://me:***@db/x and more"),
        ("postgresql://:hunter2@/x", "postgresql://:***@/x"),
        ("host=db password=hunter2 user=me", "host=db password=*** user=me"),
        ("host=db password='hun ter\\'2' user=me", "host=db password=*** user=me"),
        ("sslpassword = hunter2", "sslpassword = ***"),
        ("PILLARS_API_TOKEN=hunter2", "PILLARS_API_TOKEN=***"),
        ('{"password": "hunter2", "a": 1}', '{"password": ***, "a": 1}'),
        ("{'api_key': 'hunter2'}", "{'api_key': ***}"),
        ("Authorization: Bearer hunter2", "Authorization: ***"),
        ("http://127.0.0.1:8000/x?a=b", "http://127.0.0.1:8000/x?a=b"),
        ('FATAL: password authentication failed for user "me"',) * 2,
    ],
)
def test_secrets_are_hidden_and_nothing_else(said: str, shown: str) -> None:
    assert redact(said) == shown


@pytest.mark.parametrize("format", ["text", "json"])
def test_no_record_shows_a_secret(
    emit: Events,
    format: Literal["text", "json"],  # noqa: A002 - the setting
) -> None:
    stream = io.StringIO()
    configure_logging(format, "cron", "alpha", stream=stream)
    url = "postgresql://me:hunter2@db/x"

    emit(LoopFailed("ticker", f"cannot connect to {url}", 1, 0.5))
    emit(SchedulesRefused("schedules", (f"a.yaml:1: {url}",)))
    logging.getLogger("psycopg").warning("connecting to %s", url)
    log_error("aiohttp.server", OSError(url), "failed with %s", {"password": "hunter2"})

    assert "me:***@db" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_hiding_secrets_takes_no_quadratic_time() -> None:
    text = "://a:" * 20_000 + "password='" * 10_000

    assert len(redact(text)) > 0


# ---- completeness


def test_every_event_is_either_worded_or_known_to_be_a_metric_only() -> None:
    silent = {
        "ClockMeasured",
        "HeartbeatSent",
        "JobsClaimed",
        "JobsEnqueued",
        "JobsFinished",
        "PassCompleted",
        "RequestServed",
        "SlotsUsed",
        "StatementRun",
        "TicksFired",
    }

    assert {kind.__name__ for kind in Event.__subclasses__()} - silent == {
        kind.__name__ for kind in worded() if issubclass(kind, Event)
    }


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_each_event_has_a_line_without_gaps(event: Worded) -> None:
    words = words_for(event)

    assert words is not None
    assert "None" not in words[1]
    assert "  " not in words[1]
    assert "\n" not in words[1]


@pytest.mark.parametrize("format_", ["text", "json"])
def test_what_a_handler_logs_names_its_job_and_its_tick(format_: Literal["text", "json"]) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    trace = f"00-{'ab' * 16}-{'cd' * 8}-01"
    job = Job(JobId(7), "mail", "q", {}, 2, 1, 0, None, None, None, "daily", now, now, 0.0)
    stream = io.StringIO()
    configure_logging(format_, "worker", "w", stream=stream)

    copy_context().run(_log_in, JobContext(job._replace(trace=trace)))

    if format_ == "text":
        assert lines(stream) == ["worker/w  job 7 mail: sent", "worker/w  connected [library]"]
        return
    for line in objects(stream):
        assert {key: line[key] for key in ("job_id", "type", "queue", "attempt", "schedule")} == {
            "job_id": 7,
            "type": "mail",
            "queue": "q",
            "attempt": 2,
            "schedule": "daily",
        }
        assert (line["fire_at"], line["trace_id"]) == ("2030-01-01T00:00:00+00:00", "ab" * 16)


def _log_in(context: JobContext) -> None:
    enter_job(context)
    context.logger.info("sent")
    logging.getLogger("library").info("connected")


def test_each_worded_event_has_an_example() -> None:
    assert {type(event) for event in EXAMPLES} == worded()


def test_a_process_that_was_killed_is_told_of_by_the_signals_name() -> None:
    codes = (-9, 1, -250)

    assert [ended(code) for code in codes] == [
        "was ended by SIGKILL",
        "ended with code 1",
        "was ended by signal 250",
    ]


def test_an_event_without_words_says_nothing() -> None:
    assert words_for(HeartbeatSent(0.1)) is None
