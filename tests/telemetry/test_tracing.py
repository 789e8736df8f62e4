from __future__ import annotations

import asyncio
import itertools
import logging
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from pillars import App, Discard, RetryPolicy, current_job
from pillars.ground.clock import SystemClock
from pillars.ground.events import JobFinished
from pillars.queue.attempt import Job
from pillars.queue.states import JobId
from pillars.telemetry.tracing import AttemptSpans, attempt_spans, current_trace
from pillars.worker.worker import Worker
from tests.helpers import new_member

if TYPE_CHECKING:
    import psycopg

    from pillars.db.database import Database
    from pillars.worker.attempts import Tracing
    from tests.helpers import RecordingListener

TRACE_ID, SPAN_ID = "ab" * 16, "cd" * 8
TRACE = f"00-{TRACE_ID}-{SPAN_ID}-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> Tracer:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


@pytest.fixture
def app(database: Database, events: RecordingListener) -> App:
    app = App()
    app.bind(database, events)
    return app


class Bench:
    """Runs what is enqueued by a worker of its own, until so many attempts have ended."""

    def __init__(
        self,
        app: App,
        database: Database,
        events: RecordingListener,
        sql: psycopg.Connection[Any],
    ) -> None:
        self.app, self.sql = app, sql
        self._database, self._events = database, events

    async def run(self, attempts: int, tracing: Tracing | None) -> list[JobFinished]:
        identity = new_member(self.sql)
        worker = Worker(
            database=self._database,
            registry=self.app.registry,
            identity=lambda: identity,
            progressed=lambda: None,
            queues=(),
            concurrency=2,
            emit=self._events,
            clock=SystemClock(),
            tracing=tracing,
        )
        running = asyncio.create_task(worker.run())
        try:
            return await self._events.until(JobFinished, attempts)
        finally:
            await worker.stop(20.0)
            await running

    def traces(self) -> list[str | None]:
        rows = self.sql.execute("SELECT trace FROM pillars.jobs ORDER BY id").fetchall()
        return [row[0] for row in rows]


@pytest.fixture
def bench(
    app: App,
    database: Database,
    events: RecordingListener,
    sql: psycopg.Connection[Any],
) -> Bench:
    return Bench(app, database, events, sql)


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def ids(span: ReadableSpan) -> tuple[str, str | None]:
    """Trace id and the id of the span's parent."""
    assert span.context is not None
    return f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}" if span.parent else None


# ---- without OpenTelemetry


async def test_without_a_trace_none_is_stored(bench: Bench) -> None:
    await bench.app.enqueue("noop")

    assert bench.traces() == [None]


async def test_a_trace_that_is_given_is_stored_and_seen_by_the_handler(bench: Bench) -> None:
    seen = []

    @bench.app.job("look")
    async def look() -> None:
        seen.append((current_job().trace, current_job().log_fields["trace_id"]))

    await bench.app.enqueue("look", trace=TRACE)
    await bench.run(1, None)

    assert seen == [(TRACE, TRACE_ID)]


@pytest.mark.parametrize("is_async", [True, False])
async def test_what_a_handler_enqueues_continues_its_trace(bench: Bench, *, is_async: bool) -> None:
    loop = asyncio.get_running_loop()

    async def cause() -> None:
        await bench.app.enqueue("noop")

    def cause_from_thread() -> None:
        asyncio.run_coroutine_threadsafe(bench.app.enqueue("noop"), loop).result()

    bench.app.job("cause")(cause if is_async else cause_from_thread)
    await bench.app.enqueue("cause", trace=TRACE)
    await bench.run(2, None)

    assert bench.traces() == [TRACE, TRACE]


async def test_a_trace_that_says_nothing_is_not_handed_on(
    bench: Bench,
    sql: psycopg.Connection[Any],
) -> None:
    seen = []

    @bench.app.job("look")
    async def look() -> None:
        seen.append((current_trace(), current_job().log_fields["trace_id"]))

    await bench.app.enqueue("look", trace=TRACE)
    sql.execute("UPDATE pillars.jobs SET trace = 'written by hand'")
    await bench.run(1, None)

    assert seen == [(None, None)]


def test_without_the_package_everything_works_and_with_it_nothing_is_imported_by_enqueuing() -> (
    None
):
    script = (
        "import sys\n"
        "import pillars.app, pillars.processes.worker\n"
        "from pillars.telemetry.tracing import attempt_spans, current_trace\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
        "assert current_trace() is None\n"
        "sys.modules['opentelemetry'] = None\n"
        "assert attempt_spans() is None\n"
    )

    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)

    assert done.stderr.decode() == ""
    assert done.returncode == 0


# ---- with OpenTelemetry


def test_without_a_provider_there_are_no_spans() -> None:
    assert attempt_spans() is None


async def test_a_job_continues_the_span_that_enqueued_it_and_so_do_the_jobs_it_enqueues(
    bench: Bench,
    tracer: Tracer,
    exporter: InMemorySpanExporter,
) -> None:
    @bench.app.job("outer")
    async def outer() -> None:
        await bench.app.enqueue("inner")

    @bench.app.job("inner")
    def inner() -> None:
        with tracer.start_as_current_span("work"):
            pass

    with tracer.start_as_current_span("request"):
        await bench.app.enqueue("outer")
    await bench.run(2, AttemptSpans(tracer))

    spans = by_name(exporter)
    order = ("request", "outer", "inner", "work")
    assert {ids(spans[name])[0] for name in order} == {ids(spans["request"])[0]}
    for cause, effect in itertools.pairwise(order):
        cause_context = spans[cause].context
        assert cause_context is not None
        assert ids(spans[effect])[1] == f"{cause_context.span_id:016x}"


async def test_a_span_names_its_attempt_and_continues_what_is_stored(
    bench: Bench,
    tracer: Tracer,
    exporter: InMemorySpanExporter,
) -> None:
    job_id = await bench.app.enqueue("noop", queue="mail", trace=TRACE)
    bench.sql.execute("UPDATE pillars.jobs SET schedule = 'daily', fire_at = '2030-01-01T06:00Z'")
    await bench.run(1, AttemptSpans(tracer))

    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind) == ("noop", SpanKind.CONSUMER)
    assert ids(span) == (TRACE_ID, SPAN_ID)
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "messaging.system": "pillars",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "mail",
        "messaging.message.id": str(job_id),
        "pillars.job.id": job_id,
        "pillars.job.type": "noop",
        "pillars.job.attempt": 1,
        "pillars.job.outcome": "succeeded",
        "pillars.schedule": "daily",
        "pillars.fire_at": "2030-01-01T06:00:00+00:00",
    }


@pytest.mark.parametrize("is_async", [True, False])
async def test_each_failed_attempt_is_a_span_of_the_same_trace_with_what_was_raised(
    bench: Bench,
    tracer: Tracer,
    exporter: InMemorySpanExporter,
    *,
    is_async: bool,
) -> None:
    async def break_async() -> NoReturn:
        raise ValueError("no good")

    def break_plainly() -> NoReturn:
        raise ValueError("no good")

    policy = RetryPolicy(max_attempts=2, base=0.001)
    bench.app.job("break", retry=policy)(break_async if is_async else break_plainly)
    await bench.app.enqueue("break", trace=TRACE)
    await bench.run(2, AttemptSpans(tracer))

    first, last = exporter.get_finished_spans()
    for span, outcome in ((first, "failed"), (last, "dead")):
        assert ids(span) == (TRACE_ID, SPAN_ID)
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "ValueError: no good"
        (event,) = span.events
        assert event.attributes is not None
        assert event.attributes["exception.type"] == "ValueError"
        assert span.attributes is not None
        assert span.attributes["pillars.job.outcome"] == outcome


async def test_a_timeout_is_an_error_and_a_cancelled_job_is_none(
    bench: Bench,
    tracer: Tracer,
    exporter: InMemorySpanExporter,
) -> None:
    @bench.app.job("slow", timeout=0.001, max_attempts=1)
    async def slow() -> None:
        await asyncio.Event().wait()

    @bench.app.job("useless")
    async def useless() -> None:
        raise Discard("too late")

    await bench.app.enqueue("slow")
    await bench.app.enqueue("useless")
    await bench.run(2, AttemptSpans(tracer))

    spans = by_name(exporter)
    assert spans["slow"].status.status_code is StatusCode.ERROR
    assert spans["useless"].status.status_code is StatusCode.UNSET
    assert list(spans["useless"].events) == []


async def test_an_attempt_that_a_stop_cuts_short_ends_its_span_as_returned(
    tracer: Tracer,
    exporter: InMemorySpanExporter,
) -> None:
    started = asyncio.Event()

    async def hang(_: object) -> NoReturn:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    now = datetime(2030, 1, 1, tzinfo=UTC)
    job = Job(JobId(7), "t", "default", {}, 1, 0, 0, None, None, None, None, None, now, 0.0)
    attempt = asyncio.ensure_future(AttemptSpans(tracer).follow(hang)(job))
    await started.wait()
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt

    (span,) = exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["pillars.job.outcome"] == "returned"


async def test_slots_are_not_opened_anew_because_of_spans(
    bench: Bench,
    tracer: Tracer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = set()

    @bench.app.job("look")
    async def look() -> None:
        tasks.add(asyncio.current_task())

    for _ in range(20):
        await bench.app.enqueue("look")
    with caplog.at_level(logging.WARNING):
        await bench.run(20, AttemptSpans(tracer))

    assert 1 <= len(tasks) <= 2
    assert caplog.records == []
