"""The wording of the log: what is said of each event, and how loudly.

One event is one line. Events that come many times a second (heartbeats, passes, claims, requests)
have no words: they are metrics.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeAlias

from pillars.ground.events import (
    ChildEnded,
    DatabaseReached,
    DatabaseStarted,
    DatabaseStopped,
    DatabaseUnreachable,
    Event,
    FinishRefused,
    JobFinished,
    JobLost,
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
)
from pillars.telemetry.phrases import (
    duration,
    ended,
    first_line,
    plural,
    power_of_two,
    retry,
    some,
)

if TYPE_CHECKING:
    from collections.abc import Callable

DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

Words = tuple[int, str]
Worded: TypeAlias = Event | TickFired | JobFinished


def words_for(event: Worded) -> Words | None:
    """Return level and text for an event; None where nothing is to be said."""
    writer = _WRITERS.get(type(event))
    return writer(event) if writer else None


def worded() -> frozenset[type[Worded]]:
    """Return the types of event, and of what events hold, that have words."""
    return frozenset(_WRITERS)


def more_jobs(count: int, outcome: str) -> Words:
    """Return level and text for jobs that ended without a line of their own."""
    level = INFO if outcome in ("succeeded", "cancelled", "snoozed") else WARNING
    return level, f"… and {count:,} more {plural(count, 'job')} {outcome}"


def more_ticks(count: int, outcome: str) -> Words:
    """Return level and text for ticks that were written without a line of their own."""
    ticks = f"{count:,} {plural(count, 'tick')}"
    if outcome == "missed":
        return WARNING, f"recorded {ticks} as missed, as the schedules' catch-up rule says"
    more = f"{count:,} more {plural(count, 'tick')}"
    return INFO, f"… and {more} {'skipped' if outcome == 'skipped' else 'put on the queue'}"


def swept_ticks(count: int, late: float) -> Words:
    """Return level and text for ticks enqueued in their owners' place, up to `late` s late."""
    ticks = f"{count:,} {plural(count, 'tick')}"
    how = f"the latest {duration(late)} late" if late else "none of them late"
    return INFO, f"enqueued {ticks} in place of their owners, {how}"


# ---- processes


def _process_started(event: ProcessStarted) -> Words:
    return INFO, f"ready at {event.url}" if event.url else "ready"


def _process_stopping(event: ProcessStopping) -> Words:
    return INFO, f"stopping ({event.reason}): finishing what is under way"


def _process_stopped(_: ProcessStopped) -> Words:
    return INFO, "stopped"


def _system_started(event: SystemStarted) -> Words:
    crons = f"{event.crons:,} {plural(event.crons, 'cron')}"
    workers = f"{event.workers:,} {plural(event.workers, 'worker')}"
    sources = f"schedules from {event.schedules_dir}, jobs of {event.app}"
    return INFO, (
        f"starting {crons}, {workers} and a server at {event.url}: {sources}; "
        "Ctrl-C stops everything"
    )


def _processes_started(event: ProcessesStarted) -> Words:
    workers = f"{event.processes:,} {plural(event.processes, 'worker')}"
    return INFO, f"starting {workers} that report as one at {event.url}"


def _child_ended(event: ChildEnded) -> Words:
    child = f"{event.role}/{event.name} (pid {event.pid})"
    return WARNING, f"{child} {ended(event.code)}; starts again in {retry(event.restart_in)}"


def _loop_failed(event: LoopFailed) -> Words | None:
    if not power_of_two(event.failures):
        return None
    again = f", {event.failures:,} times in a row" if event.failures > 1 else ""
    # The steps of a stop are not tried again.
    then = f"; retry in {retry(event.retry_in)}" if event.retry_in else ""
    return WARNING, f"{event.loop} failed{again}: {event.error}{then}"


def _loop_recovered(event: LoopRecovered) -> Words:
    times = f"{event.failures:,} {plural(event.failures, 'failure')}"
    return INFO, f"{event.loop} works again after {times}"


# ---- database


def _database_started(event: DatabaseStarted) -> Words:
    return INFO, f"started PostgreSQL in {event.data_dir} ({event.database})"


def _database_stopped(event: DatabaseStopped) -> Words:
    return INFO, f"stopped PostgreSQL in {event.data_dir}"


def _database_unreachable(event: DatabaseUnreachable) -> Words | None:
    if not power_of_two(event.attempts):
        return None
    where = f"{event.database}: {event.error}"
    return WARNING, f"cannot reach database {where}; retry in {retry(event.retry_in)}"


def _database_reached(event: DatabaseReached) -> Words:
    attempts = f"{event.attempts:,} failed {plural(event.attempts, 'attempt')}"
    return INFO, f"reached database {event.database} after {attempts}"


def _migration_applied(event: MigrationApplied) -> Words:
    return INFO, f"applied migration {event.number:04d} {event.migration}"


# ---- cluster


def _member_joined(event: MemberJoined) -> Words:
    if event.role != "cron":
        return INFO, "joined"
    return INFO, f"joined with {event.slots:,} slots (ring {event.ring_version})"


def _ring_seen(event: RingSeen) -> Words:
    changes = [
        f"{sign}{count:,}" for sign, count in (("+", event.gained), ("-", event.lost)) if count
    ]
    why = ", ".join([*changes, f"ring {event.version}"])
    return INFO, f"owns {event.slots:,} slots ({why})"


def _ring_moved(event: RingMoved) -> Words:
    return INFO, f"moved {event.moved:,} slots ({event.reason}, ring {event.version})"


def _member_expelled(event: MemberExpelled) -> Words:
    jobs = (
        f", {event.jobs_rescued:,} of its jobs go back to the queue" if event.jobs_rescued else ""
    )
    silence = f"{event.reason} for {duration(event.silent_for)}"
    return WARNING, f"expelled {event.role}/{event.name}: {silence}{jobs}"


def _membership_lost(_: MembershipLost) -> Words:
    return WARNING, "was expelled by another member: joining anew"


def _member_left(_: MemberLeft) -> Words:
    return INFO, "left in order"


# ---- cron


def _schedules_applied(event: SchedulesApplied) -> Words:
    changes = [
        f"{count:,} {what}"
        for what, count in (
            ("added", event.added),
            ("changed", event.changed),
            ("removed", event.removed),
        )
        if count
    ]
    text = f"applied schedules: {', '.join(changes) or 'nothing changed'}, {event.total:,} in all"
    return INFO, f"{text} ({some(event.names)})" if event.names else text


def _schedules_refused(event: SchedulesRefused) -> Words:
    count = len(event.faults)
    faults = f"{count:,} {plural(count, 'fault')}: {some(event.faults, '; ')}"
    return ERROR, f"schedules in {event.directory} refused, the old ones stay: {faults}"


def _schedules_warned(event: SchedulesWarned) -> Words:
    return WARNING, f"schedules: {some(event.warnings, '; ')}"


def _schedules_waiting(event: SchedulesWaiting) -> Words:
    current = event.current_digest[:8]
    newer = (
        f"{event.holders:,} live {plural(event.holders, 'cron')} hold {current}"
        if event.holders
        else f"{current} has just come into force"
    )
    return WARNING, (
        f"the schedule files here ({event.digest[:8]}) were superseded: {newer}; waiting"
    )


def _schedule_broken(event: ScheduleBroken) -> Words:
    return ERROR, (
        f"schedule {event.schedule_id} has no next tick: {event.error}; "
        f"retry in {retry(event.retry_in)}"
    )


def _tick_fired(event: TickFired) -> Words:
    tick = f"tick {event.fire_at:%Y-%m-%d %H:%M:%S}Z of {event.schedule}"
    if event.outcome == "enqueued":
        why = f" ({event.reason})" if event.reason else ""
        return INFO, f"{tick} is job {event.job_id} on queue {event.queue}{why}"
    return INFO, f"{tick} is {event.outcome} (job {event.job_id}): {event.reason}"


# ---- queue and worker


def _job_finished(event: JobFinished) -> Words:
    job = f"job {event.job_id} {event.type}"
    took = duration(event.seconds)
    if event.outcome == "succeeded":
        schedule = f" (schedule {event.schedule})" if event.schedule else ""
        text = f"{job} succeeded in {took}{schedule}"
        return (WARNING, f"{text}, but {first_line(event.error)}") if event.error else (INFO, text)
    if event.outcome == "cancelled":
        return (
            INFO,
            f"{job} was cancelled after {took}: {first_line(event.error) or 'no reason given'}",
        )
    if event.outcome == "snoozed":
        why = f": {first_line(event.error)}" if event.error else ""
        return INFO, f"{job} was snoozed for {duration(event.retry_in or 0.0)}{why}"
    if event.outcome == "unknown":
        return WARNING, f"{job} is put back for {duration(event.retry_in or 0.0)}: {event.error}"
    attempt = f"{event.outcome} after {took}, attempt {event.attempt}"
    text = f"{job} {attempt}: {first_line(event.error) or 'no reason given'}"
    if event.retry_in is None:
        return ERROR, text
    return WARNING, f"{text}; retry in {retry(event.retry_in)}"


def _job_lost(event: JobLost) -> Words:
    job = f"job {event.job_id} {event.type}"
    return (
        ERROR,
        f"{job} is dead: lost with too many workers, the last one in attempt {event.attempt}",
    )


def _job_stopping(event: JobStopping) -> Words:
    return INFO, f"job {event.job_id} {event.type} is told to stop: {first_line(event.reason)}"


def _finish_refused(event: FinishRefused) -> Words:
    count = len(event.job_ids)
    jobs = f"{count:,} {plural(count, 'job')} ({some([str(job) for job in event.job_ids])})"
    return WARNING, f"dropped late results of {jobs}: given to another worker meanwhile"


def _jobs_returned(event: JobsReturned) -> Words:
    jobs = f"{event.count:,} {plural(event.count, 'job')}"
    return INFO, f"returned {jobs} to the queue: not started, or cut short"


def _jobs_rescued(event: JobsRescued) -> Words:
    jobs = plural(event.count, "job")
    return WARNING, f"{event.count:,} more {jobs} of lost workers went back to the queue"


def _jobs_pruned(event: JobsPruned) -> Words:
    return DEBUG, f"pruned {event.count:,} finished {plural(event.count, 'job')}"


_WRITERS: dict[type[Worded], Callable[[Any], Words | None]] = {
    ProcessStarted: _process_started,
    ProcessStopping: _process_stopping,
    ProcessStopped: _process_stopped,
    SystemStarted: _system_started,
    ProcessesStarted: _processes_started,
    ChildEnded: _child_ended,
    LoopFailed: _loop_failed,
    LoopRecovered: _loop_recovered,
    DatabaseStarted: _database_started,
    DatabaseStopped: _database_stopped,
    DatabaseUnreachable: _database_unreachable,
    DatabaseReached: _database_reached,
    MigrationApplied: _migration_applied,
    MemberJoined: _member_joined,
    RingSeen: _ring_seen,
    RingMoved: _ring_moved,
    MemberExpelled: _member_expelled,
    MembershipLost: _membership_lost,
    MemberLeft: _member_left,
    SchedulesApplied: _schedules_applied,
    SchedulesRefused: _schedules_refused,
    SchedulesWarned: _schedules_warned,
    SchedulesWaiting: _schedules_waiting,
    ScheduleBroken: _schedule_broken,
    TickFired: _tick_fired,
    JobFinished: _job_finished,
    JobLost: _job_lost,
    JobStopping: _job_stopping,
    FinishRefused: _finish_refused,
    JobsRescued: _jobs_rescued,
    JobsReturned: _jobs_returned,
    JobsPruned: _jobs_pruned,
}
