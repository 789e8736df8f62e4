"""Traces: which one this code belongs to, and a span for each attempt where OpenTelemetry is there.

A job carries the `traceparent` of whoever enqueued it, so a request, the jobs it caused and the
jobs those caused are one trace. That needs no package. Where the application has set up a tracer
provider of OpenTelemetry, jobs continue its current span, and each attempt runs in a span of its
own. A tick begins a trace: nothing came before it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from pillars import __version__
from pillars.queue.states import JobState
from pillars.queue.trace import read_traceparent
from pillars.worker.context import running_job

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer

    from pillars.queue.attempt import Ended, Job
    from pillars.worker.attempts import Attempt, Run

_SYSTEM = "pillars"
_FAULTS = frozenset({JobState.FAILED, JobState.DEAD})


def current_trace() -> str | None:
    """Return the `traceparent` for what this code causes: of its span, else of its job's cause."""
    # Not imported: a program that has a span has done that.
    otel = sys.modules.get("opentelemetry.trace")
    if otel is not None:
        context = otel.get_current_span().get_span_context()
        if context.is_valid:
            return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    job = running_job()
    return None if job is None or job.trace is None else read_traceparent(job.trace)


def attempt_spans() -> AttemptSpans | None:
    """Return what makes a span of each attempt; None unless OpenTelemetry is there and set up."""
    try:
        from opentelemetry import trace  # noqa: PLC0415 - optional
    except ImportError:
        return None
    provider = trace.get_tracer_provider()
    # Without a provider a span goes nowhere, and yet costs as much as three small jobs.
    if isinstance(provider, trace.ProxyTracerProvider):
        return None
    return AttemptSpans(provider.get_tracer(_SYSTEM, __version__))


class AttemptSpans:
    """Runs each attempt in a span: kind CONSUMER, child of the span that enqueued the job.

    Names and attributes follow OpenTelemetry's conventions for messaging. It is an error if the
    attempt failed; a job that was cancelled, snoozed or given back did not.
    """

    def __init__(self, tracer: Tracer) -> None:
        """Make spans with this tracer."""
        from opentelemetry import trace  # noqa: PLC0415 - optional
        from opentelemetry.context import Context  # noqa: PLC0415 - as above

        self._tracer = tracer
        self._api = trace
        self._root = Context()

    def follow(self, run: Run) -> Run:
        """Return a `run` that does the same inside a span."""

        async def run_in_span(job: Job) -> Attempt:
            with self._tracer.start_as_current_span(
                job.type,
                context=self._parent(job),
                kind=self._api.SpanKind.CONSUMER,
                attributes=_attributes(job),
                # What a handler raised never gets here; `raised` and `ended` tell of it.
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                try:
                    ended, thread = await run(job)
                except asyncio.CancelledError:
                    span.set_attribute("pillars.job.outcome", "returned")
                    raise
                span.set_attribute("pillars.job.outcome", ended.outcome)
                if ended.state in _FAULTS:
                    span.set_status(self._api.StatusCode.ERROR, _summary(ended))
                return ended, thread

        return run_in_span

    def raised(self, error: BaseException) -> None:
        """Record what a handler raised, in the span of its attempt."""
        self._api.get_current_span().record_exception(error)

    def _parent(self, job: Job) -> Context:
        # Never what happens to be current in the worker: the cause is kept with the job.
        trace = read_traceparent(job.trace) if job.trace is not None else None
        if trace is None:
            return self._root
        _, trace_id, span_id, flags = trace.split("-")
        cause = self._api.SpanContext(
            int(trace_id, 16),
            int(span_id, 16),
            is_remote=True,
            trace_flags=self._api.TraceFlags(int(flags, 16)),
        )
        return self._api.set_span_in_context(self._api.NonRecordingSpan(cause), self._root)


def _attributes(job: Job) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "messaging.system": _SYSTEM,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": job.queue,
        "messaging.message.id": str(job.id),
        "pillars.job.id": job.id,
        "pillars.job.type": job.type,
        "pillars.job.attempt": job.attempt,
    }
    if job.schedule is not None:
        attributes["pillars.schedule"] = job.schedule
    if job.fire_at is not None:
        attributes["pillars.fire_at"] = job.fire_at.isoformat()
    return attributes


def _summary(ended: Ended) -> str:
    return (ended.error or "").partition("\n")[0]
