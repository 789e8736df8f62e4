"""What a run leaves: plain values, so that a test can doctor them. Instants are epoch seconds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, LiteralString

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psycopg

    from ops.chaos.clocks import Clocks
    from ops.chaos.crew import Crew
    from ops.chaos.load import Load

_JOBS: LiteralString = """
SELECT id, type, schedule, extract(epoch FROM fire_at)::float8,
    extract(epoch FROM fire_until)::float8, extract(epoch FROM run_at)::float8,
    extract(epoch FROM created_at)::float8, extract(epoch FROM started_at)::float8,
    extract(epoch FROM finished_at)::float8, state::text, attempt, rescues, unique_key,
    concurrency_key, concurrency_limit, (result ->> 'attempt')::integer,
    (args ->> 'edition')::integer
FROM pillars.jobs
"""
_RUNS: LiteralString = """
SELECT job_id, attempt, pid, extract(epoch FROM began)::float8, extract(epoch FROM ended)::float8
FROM nemesis.runs
"""
_RING_LOG: LiteralString = """
SELECT version, reason, member_name, moved, members, extract(epoch FROM changed_at)::float8
FROM pillars.ring_log ORDER BY version
"""
_EDITIONS: LiteralString = (
    "SELECT (args ->> 'edition')::integer FROM pillars.schedules WHERE args ? 'edition'"
)
_ROWS: LiteralString = (
    "SELECT 'members', count(*) FROM pillars.members "
    "UNION ALL SELECT 'ring_log', count(*) FROM pillars.ring_log "
    "UNION ALL SELECT 'withdrawn_ticks', count(*) FROM pillars.withdrawn_ticks "
    "UNION ALL SELECT 'schedule_sets', count(*) FROM pillars.schedule_sets "
    "UNION ALL SELECT 'lost_workers', count(*) FROM pillars.lost_workers "
    "UNION ALL SELECT 'jobs', count(*) FROM pillars.jobs"
)
_CREATED: LiteralString = (
    "SELECT name, extract(epoch FROM created_at)::float8 FROM pillars.schedules"
)


@dataclass(frozen=True, slots=True)
class Job:
    """A row of the jobs table.

    `answered` is the attempt whose result stands, `edition` that of the files it was made from.
    """

    id: int
    type: str
    schedule: str | None
    fire_at: float | None
    fire_until: float | None
    run_at: float
    created_at: float
    started_at: float | None
    finished_at: float | None
    state: str
    attempt: int
    rescues: int = 0
    unique_key: str | None = None
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    answered: int | None = None
    edition: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What a handler left of one attempt; `ended` is missing where it came to no end."""

    job_id: int
    attempt: int
    pid: int
    began: float
    ended: float | None


@dataclass(frozen=True, slots=True)
class RingChange:
    """A row of the ring's log."""

    version: int
    reason: str
    member_name: str | None
    moved: int
    members: int
    changed_at: float


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done, to which incarnations; `until` is when it was over and made good.

    `forgets` is a stretch of which the database has forgotten what was committed. Deeds of one lane
    come one after the other; those of several may overlap.
    """

    fault: str
    at: float
    until: float
    harmed: tuple[str, ...] = ()
    forgets: tuple[float, float] | None = None
    lane: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a process's log; one that is no JSON has the level `raw`."""

    process: str
    at: float
    level: str
    event: str | None
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pin:
    """A session of ours that was seen to hold back the oldest transaction, for so long by then."""

    at: float
    application: str
    seconds: float
    query: str


@dataclass(frozen=True, slots=True)
class Ring:
    """The ring at rest: the owner of each slot, and who was an active cron."""

    owners: tuple[str | None, ...]
    crons: frozenset[str]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of it.

    Attributes:
        lease: seconds.
        until: ticks and jobs due by then must have ended.
        loads: the schedules.
        created: when each schedule was made, as the database said before anything was done to it.
        created_at_rest: the same, as it says at rest.
        acknowledged: ids of jobs whose enqueuing was answered, and when.
        paused: stretches in which a schedule was surely paused.
        backfilled: (schedule, first instant, instant after the last, when that was answered).
        edition: of the schedule files, the one written last.
        in_force: the editions that schedules are of at rest.
        sessions: (instant, sessions of ours) in order.
        memory: by incarnation (instant, bytes resident) in order.
        rows: of our tables at rest.
        clocks: by incarnation (instant, seconds that its clock was ahead from then on).
        processes: how many processes run at rest.
        membership: whether crons were members.
        unsettled: what never came to rest.
    """

    lease: float
    until: float
    loads: Sequence[Load]
    created: Mapping[str, float]
    created_at_rest: Mapping[str, float]
    jobs: Sequence[Job]
    runs: Sequence[Run]
    ring: Ring
    ring_log: Sequence[RingChange]
    lines: Sequence[Line]
    deeds: Sequence[Deed]
    acknowledged: Mapping[int, float]
    paused: Sequence[tuple[str, float, float]]
    backfilled: Sequence[tuple[str, float, float, float]]
    edition: int
    in_force: frozenset[int]
    pins: Sequence[Pin]
    sessions: Sequence[tuple[float, int]]
    memory: Mapping[str, Sequence[tuple[float, int]]]
    rows: Mapping[str, int]
    clocks: Mapping[str, Sequence[tuple[float, float]]]
    processes: int
    exits: Mapping[str, int]
    unsettled: Sequence[str] = ()
    membership: bool = True

    def forgotten(self, since: float, until: float) -> bool:
        """Tell whether the database may have forgotten what was committed in a stretch."""
        return any(since <= end and until >= start for start, end in self.forgets())

    def forgets(self) -> list[tuple[float, float]]:
        """Return the stretches of which the database may have forgotten what was committed."""
        return [deed.forgets for deed in self.deeds if deed.forgets is not None]


def read_jobs(sql: psycopg.Connection[Any]) -> list[Job]:
    """Return all jobs."""
    return [Job(*row) for row in sql.execute(_JOBS).fetchall()]


def read_runs(sql: psycopg.Connection[Any]) -> list[Run]:
    """Return what the handlers left."""
    return [Run(*row) for row in sql.execute(_RUNS).fetchall()]


def read_ring_log(sql: psycopg.Connection[Any]) -> list[RingChange]:
    """Return the changes of the ring, the first one first."""
    return [RingChange(*row) for row in sql.execute(_RING_LOG).fetchall()]


def read_created(sql: psycopg.Connection[Any]) -> dict[str, float]:
    """Return when each schedule was made."""
    return dict(sql.execute(_CREATED).fetchall())


def read_editions(sql: psycopg.Connection[Any]) -> frozenset[int]:
    """Return the editions of the files that schedules are of."""
    return frozenset(edition for (edition,) in sql.execute(_EDITIONS).fetchall())


def read_rows(sql: psycopg.Connection[Any]) -> dict[str, int]:
    """Return how many rows our tables have."""
    return dict(sql.execute(_ROWS).fetchall())


def read_lines(crew: Crew, clocks: Clocks) -> list[Line]:
    """Return the log lines of all incarnations, at their true times."""
    return [
        _line(each.id, text, clocks)
        for each in crew.past
        for text in each.log.read_text(errors="replace").splitlines()
        if text.strip()
    ]


def _line(process: str, text: str, clocks: Clocks) -> Line:
    # A process that is killed may leave half a line; that is no fault of its own.
    try:
        raw = json.loads(text)
        told = _epoch(raw["ts"])
    except (ValueError, KeyError, TypeError):
        return Line(process, 0.0, "cut off" if text.startswith('{"ts"') else "raw", None, text)
    return Line(
        process, clocks.true(process, told), raw["level"], raw["event"], raw["message"], raw
    )


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
