"""Events in, numbers out: the metrics of one process.

Series are bound once and found by one lookup; batches are counted as batches. Events are emitted
on the event loop's thread, so the numbers need no lock; `render` may run in any other.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from pillars.ground.events import (
    ClockMeasured,
    HeartbeatSent,
    JobLost,
    JobsClaimed,
    JobsEnqueued,
    JobsFinished,
    LoopFailed,
    MemberJoined,
    MembershipLost,
    PassCompleted,
    RequestServed,
    RingMoved,
    RingSeen,
    SlotsUsed,
    StatementRun,
    TicksFired,
)
from pillars.telemetry.catalog import METRICS, Kind, metrics_of
from pillars.telemetry.families import OTHER, Bound, Buckets, Cell, Family, Histogram, Limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client.registry import Collector

    from pillars.ground.events import Events

# Of queue and type: each has a whole histogram, and two labels of 200 values make 40,000 pairs.
PAIR_LIMIT = 300
_OUTCOMES = ("succeeded", "failed", "dead", "cancelled", "snoozed", "unknown")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def encode(registry: Collector, accept: str) -> tuple[bytes, str]:
    """Return what a registry collects as text, and its content type, as `accept` prefers."""
    try:
        encoder, content_type = choose_encoder(accept)
    except (TypeError, ValueError):
        # The client compares versions without a look at what they are.
        encoder, content_type = choose_encoder("")
    return encoder(registry), content_type


class Metrics:
    """Keeps the metrics of this process's role; all others are counted into the void."""

    def __init__(self, events: Events, role: str, wall: Callable[[], float] = time.time) -> None:
        """Listen to everything that is counted.

        Args:
            events: what happens in this process.
            role: server, worker or cron: decides what is exported.
            wall: the wall clock, in seconds since 1970, for timestamps people compare with `now`.
        """
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._families = {m.name: Family(m) for m in METRICS if m.kind is not Kind.HISTOGRAM}
        self._histograms = {m.name: Histogram(m) for m in METRICS if m.kind is Kind.HISTOGRAM}
        for metric in metrics_of(role):
            self.registry.register(
                self._families.get(metric.name) or self._histograms[metric.name],
            )
        self._wall = wall
        self._queues, self._types, self._routes, self._loops, self._statements = (
            Limit(OTHER) for _ in range(5)
        )
        self._kinds = Limit((OTHER, OTHER), PAIR_LIMIT)
        self.family("pillars_build_info").cell(version("pillars"), role)
        self._count_cron(events)
        self._count_cluster(events)
        self._count_jobs(events)
        self._count_requests(events)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics as text, and its content type, in the format `accept` prefers.

        Takes long with many series (about 10 ms for 1,000 histogram lines): see `rendered`.
        """
        return encode(self.registry, accept)

    async def rendered(self, accept: str = "") -> tuple[bytes, str]:
        """Do the same in a thread."""
        return await asyncio.to_thread(self.render, accept)

    def family(self, name: str) -> Family:
        """Return a counter, gauge or info metric by its name."""
        return self._families[name]

    def histogram(self, name: str) -> Histogram:
        """Return a histogram by its name."""
        return self._histograms[name]

    def owned_schedules(self, count: int) -> None:
        """Set how many enabled schedules this cron owns."""
        self.family("pillars_cron_owned_schedules").cell().value = count

    def admit_queue(self, queue: str) -> str:
        """Return the label value for a queue: its name, or `other` once there are too many."""
        return self._queues(queue)

    # ---- cron

    def _count_cron(self, events: Events) -> None:
        self._fires = Bound[str, Cell](self.family("pillars_cron_fires_total").cell)
        for outcome in ("enqueued", "missed", "skipped", "duplicate"):
            self._fires[outcome].value = 0.0  # a rate needs a first zero to start from
        self._lateness = self.histogram("pillars_cron_lateness_seconds").series()
        self._swept = self.family("pillars_cron_swept_fires_total").cell()
        self._lost_races = self.family("pillars_cron_lost_races_total").cell()
        self._passes = self.histogram("pillars_cron_pass_seconds").series()
        self._overdue = self.family("pillars_cron_overdue_schedules").cell()
        events.subscribe(TicksFired, self._ticks_fired)
        events.subscribe(PassCompleted, self._pass_completed)

    def _ticks_fired(self, event: TicksFired) -> None:
        for outcome, count in event.outcomes.items():
            self._fires[outcome].value += count
        for queue, count in event.queues.items():
            self._enqueued[queue].value += count
        self._lateness.observe_many(event.lateness)
        self._lost_races.value += event.lost_races
        if event.swept:
            self._swept.value += event.outcomes.get("enqueued", 0)

    def _pass_completed(self, event: PassCompleted) -> None:
        self._passes.observe(event.seconds)
        self._overdue.value = event.overdue
        # Bound only now: before the first pass there is no such instant.
        self.family("pillars_cron_last_pass_timestamp_seconds").cell().value = self._wall()

    # ---- cluster

    def _count_cluster(self, events: Events) -> None:
        self._version = self.family("pillars_ring_version").cell()
        self._slots = self.family("pillars_cron_owned_slots").cell()
        self._moves = Bound[str, Cell](self.family("pillars_ring_moves_total").cell)
        for reason in ("join", "leave", "expel"):
            self._moves[reason].value = 0.0
        self._heartbeats = self.histogram("pillars_heartbeat_seconds").series()
        self._loop_failures = Bound[str, Cell](
            lambda loop: self.family("pillars_loop_failures_total").cell(self._loops(loop)),
        )
        events.subscribe(MemberJoined, self._member_joined)
        events.subscribe(MembershipLost, self._membership_lost)
        events.subscribe(RingSeen, self._ring_seen)
        events.subscribe(RingMoved, self._ring_moved)
        events.subscribe(HeartbeatSent, self._heartbeat_sent)
        events.subscribe(ClockMeasured, self._clock_measured)
        self._answers = Bound[str, Buckets](
            lambda name: self.histogram("pillars_db_statement_seconds").series(
                self._statements(name),
            ),
        )
        events.subscribe(LoopFailed, self._loop_failed)
        events.subscribe(StatementRun, self._statement_run)

    def _member_joined(self, event: MemberJoined) -> None:
        self._version.value, self._slots.value = event.ring_version, event.slots

    def _membership_lost(self, _: MembershipLost) -> None:
        self._version.value, self._slots.value = 0, 0

    def _ring_seen(self, event: RingSeen) -> None:
        self._version.value, self._slots.value = event.version, event.slots

    def _ring_moved(self, event: RingMoved) -> None:
        self._moves[event.reason].value += event.moved

    def _heartbeat_sent(self, event: HeartbeatSent) -> None:
        self._heartbeats.observe(event.seconds)

    def _clock_measured(self, event: ClockMeasured) -> None:
        self.family("pillars_clock_offset_seconds").cell().value = event.offset

    def _loop_failed(self, event: LoopFailed) -> None:
        self._loop_failures[event.loop].value += 1

    def _statement_run(self, event: StatementRun) -> None:
        self._answers[event.name].observe(event.seconds)

    # ---- queue and worker

    def _count_jobs(self, events: Events) -> None:
        self._enqueued = Bound[str, Cell](
            lambda queue: self.family("pillars_jobs_enqueued_total").cell(self._queues(queue)),
        )
        self._ended = Bound[tuple[str, str, str], tuple[Cell, Buckets]](self._bind_ended)
        self._start_delays = Bound[str, Buckets](
            lambda queue: self.histogram("pillars_job_start_delay_seconds").series(
                self._queues(queue),
            ),
        )
        self._busy = self.family("pillars_worker_slots").cell("busy")
        self._free = self.family("pillars_worker_slots").cell("free")
        events.subscribe(JobsEnqueued, self._jobs_enqueued)
        events.subscribe(JobsClaimed, self._jobs_claimed)
        events.subscribe(JobsFinished, self._jobs_finished)
        events.subscribe(JobLost, self._job_lost)
        events.subscribe(SlotsUsed, self._slots_used)

    def _jobs_enqueued(self, event: JobsEnqueued) -> None:
        self._enqueued[event.queue].value += event.count

    def _jobs_claimed(self, event: JobsClaimed) -> None:
        seconds = defaultdict[str, list[float]](list)
        for queue, delay in event.start_delays:
            seconds[queue].append(delay)
        for queue, delays in seconds.items():
            self._start_delays[queue].observe_many(delays)

    def _jobs_finished(self, event: JobsFinished) -> None:
        seconds = defaultdict[tuple[str, str, str], list[float]](list)
        for job in event.jobs:
            seconds[job.queue, job.type, job.outcome].append(job.seconds)
        for key, durations in seconds.items():
            finished, buckets = self._ended[key]
            finished.value += len(durations)
            buckets.observe_many(durations)

    def _job_lost(self, event: JobLost) -> None:
        # How long its last attempt ran, nobody knows.
        finished, _ = self._ended[event.queue, event.type, "dead"]
        finished.value += 1

    def _slots_used(self, event: SlotsUsed) -> None:
        self._busy.value, self._free.value = event.busy, event.free

    def _bind_ended(self, key: tuple[str, str, str]) -> tuple[Cell, Buckets]:
        labels = self._kinds((self._queues(key[0]), self._types(key[1])))
        finished = self.family("pillars_jobs_finished_total")
        for outcome in _OUTCOMES:
            finished.cell(*labels, outcome)  # a rate needs a first zero to start from
        return (
            finished.cell(*labels, key[2]),
            self.histogram("pillars_job_duration_seconds").series(*labels),
        )

    # ---- server

    def _count_requests(self, events: Events) -> None:
        self._requests = Bound[tuple[str, str, int], tuple[Cell, Buckets]](self._bind_request)
        events.subscribe(RequestServed, self._request_served)

    def _request_served(self, event: RequestServed) -> None:
        requests, durations = self._requests[event.method, event.route, event.status]
        requests.value += 1
        durations.observe(event.seconds)

    def _bind_request(self, key: tuple[str, str, int]) -> tuple[Cell, Buckets]:
        # A client may send any word as its method.
        method, route = key[0] if key[0] in _METHODS else OTHER, self._routes(key[1])
        return (
            self.family("pillars_http_requests_total").cell(method, route, str(key[2])),
            self.histogram("pillars_http_request_seconds").series(method, route),
        )
