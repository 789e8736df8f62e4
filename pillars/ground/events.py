"""What happened, as values: each event is one frozen dataclass of primitives.

The rooms emit events and know nothing of logs or metrics; `telemetry` listens. An event is emitted
only after the commit it reports. Hot paths emit one event for a batch, never one for a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Event:
    """The base of all events."""


Emit = Callable[[Event], None]


def nobody(_: Event) -> None:
    """Emit to nobody: where Pillars is used outside of its own processes."""


E = TypeVar("E", bound=Event)


class Events:
    """Hands each emitted event to the listeners of its type, in the order they subscribed."""

    def __init__(self) -> None:
        """Start with no listeners."""
        self._listeners: dict[type[Event], list[Callable[[Event], None]]] = {}

    def subscribe(self, kind: type[E], listener: Callable[[E], None]) -> None:
        """Call `listener` with every event of exactly this type."""
        self._listeners.setdefault(kind, []).append(listener)  # type: ignore[arg-type] # keyed by type

    def __call__(self, event: Event) -> None:
        """Emit an event."""
        for listener in self._listeners.get(type(event), ()):
            listener(event)


# ---- processes


@dataclass(frozen=True, slots=True)
class ProcessStarted(Event):
    """A pillar is up: it has joined and its loops run."""

    role: str
    name: str
    member_id: str
    url: str


@dataclass(frozen=True, slots=True)
class ProcessStopping(Event):
    """A stop was asked for; what is under way is being finished."""

    role: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class ProcessStopped(Event):
    """Everything is put away; the process ends."""

    role: str
    name: str


@dataclass(frozen=True, slots=True)
class SystemStarted(Event):
    """`pillars up` has started everything."""

    url: str
    crons: int
    workers: int
    schedules_dir: str
    app: str


@dataclass(frozen=True, slots=True)
class ProcessesStarted(Event):
    """`pillars worker --processes N` has started its workers; `url` answers for all of them."""

    name: str
    processes: int
    url: str


@dataclass(frozen=True, slots=True)
class ChildEnded(Event):
    """A process that this one had started died; it is started again after `restart_in` seconds.

    `code` is minus the number of the signal that killed it, or 0.
    """

    role: str
    name: str
    pid: int
    code: int
    restart_in: float


@dataclass(frozen=True, slots=True)
class LoopFailed(Event):
    """A loop's step raised; it is tried again after `retry_in` seconds."""

    loop: str
    error: str
    failures: int
    retry_in: float


@dataclass(frozen=True, slots=True)
class LoopRecovered(Event):
    """A loop's step succeeded again after `failures` failures in a row."""

    loop: str
    failures: int


@dataclass(frozen=True, slots=True)
class ClockMeasured(Event):
    """This process's wall clock minus the database's, in seconds, by the best recent sample."""

    offset: float


# ---- database


@dataclass(frozen=True, slots=True)
class DatabaseStarted(Event):
    """The embedded PostgreSQL runs."""

    data_dir: str
    database: str


@dataclass(frozen=True, slots=True)
class DatabaseStopped(Event):
    """The embedded PostgreSQL has stopped in order."""

    data_dir: str


@dataclass(frozen=True, slots=True)
class DatabaseUnreachable(Event):
    """A connection could not be made; it is tried again after `retry_in` seconds."""

    database: str
    error: str
    attempts: int
    retry_in: float


@dataclass(frozen=True, slots=True)
class DatabaseReached(Event):
    """A connection was made after failed attempts."""

    database: str
    attempts: int


@dataclass(frozen=True, slots=True)
class StatementRun(Event):
    """A named statement was answered in `seconds`; those inside a transaction are not told of."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class MigrationApplied(Event):
    """A numbered migration was committed."""

    number: int
    migration: str


# ---- cluster


@dataclass(frozen=True, slots=True)
class MemberJoined(Event):
    """This process is a member; `slots` is its share of the ring (0 for other roles)."""

    role: str
    name: str
    member_id: str
    slots: int
    ring_version: int


@dataclass(frozen=True, slots=True)
class RingSeen(Event):
    """This process took over a new version of the ring."""

    version: int
    slots: int
    gained: int
    lost: int


@dataclass(frozen=True, slots=True)
class RingMoved(Event):
    """This process changed the ring: `moved` slots have another owner now."""

    version: int
    reason: str
    moved: int


@dataclass(frozen=True, slots=True)
class MemberExpelled(Event):
    """This process removed a member that gave no sign of life; its jobs go back to the queue."""

    role: str
    name: str
    member_id: str
    reason: str
    silent_for: float
    jobs_rescued: int


@dataclass(frozen=True, slots=True)
class MembershipLost(Event):
    """This process found itself expelled; it drops its share and joins anew."""

    role: str
    name: str
    member_id: str


@dataclass(frozen=True, slots=True)
class MemberLeft(Event):
    """This process left in order."""

    role: str
    name: str
    member_id: str


@dataclass(frozen=True, slots=True)
class HeartbeatSent(Event):
    """A heartbeat was committed in `seconds`."""

    seconds: float


# ---- cron


@dataclass(frozen=True, slots=True)
class SchedulesApplied(Event):
    """A set of schedule files was applied in one transaction."""

    sequence: int
    digest: str
    added: int
    changed: int
    removed: int
    total: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SchedulesRefused(Event):
    """The schedule files could not be used; what the database holds stays in force."""

    directory: str
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SchedulesWarned(Event):
    """The schedule files are valid but hold something that is rarely meant."""

    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SchedulesWaiting(Event):
    """The schedule files here were superseded by a set that is held, or new; nothing done."""

    digest: str
    current_digest: str
    holders: int


class TickFired(NamedTuple):
    """One tick that was written: `outcome` is enqueued, skipped or missed, `reason` why not."""

    schedule: str
    fire_at: datetime
    job_id: int
    queue: str
    outcome: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class TicksFired(Event):
    """One fire statement was committed.

    `lateness` holds, for each enqueued tick, the seconds from its instant to the commit, 0 where
    it was early. `outcomes` counts ticks: enqueued, skipped, missed, duplicate. `queues` counts
    the enqueued ones by the queue they went to. `ticks` are the ones written, where they are few.
    """

    schedules: int
    outcomes: dict[str, int]
    lateness: tuple[float, ...]
    lost_races: int
    swept: bool
    queues: Mapping[str, int] = field(default_factory=dict)
    ticks: tuple[TickFired, ...] = ()


@dataclass(frozen=True, slots=True)
class ScheduleBroken(Event):
    """A schedule's next ticks could not be computed; it is left alone for `retry_in` seconds."""

    schedule_id: int
    error: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class PassCompleted(Event):
    """The ticker looked at everything that was due and has nothing left to do."""

    seconds: float
    overdue: int


# ---- queue and worker


@dataclass(frozen=True, slots=True)
class JobsEnqueued(Event):
    """Jobs were committed to a queue by this process."""

    queue: str
    count: int


@dataclass(frozen=True, slots=True)
class JobsClaimed(Event):
    """A batch was claimed; `start_delays` are (queue, seconds from run_at to the claim)."""

    count: int
    start_delays: tuple[tuple[str, float], ...]


# A named tuple: one is made for every attempt, at a fifth of a dataclass's cost.
class JobFinished(NamedTuple):
    """An attempt ended: `outcome` is succeeded, failed, dead, cancelled, snoozed or unknown.

    Of a job whose type is unknown to the worker no attempt was made. `retry_in` are the seconds
    until the next attempt of one that failed, was snoozed or is unknown; `fire_at` is the
    schedule's tick.
    """

    job_id: int
    type: str
    queue: str
    attempt: int
    outcome: str
    seconds: float
    schedule: str | None
    error: str | None
    retry_in: float | None
    fire_at: datetime | None = None
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class JobsFinished(Event):
    """How attempts ended was committed, in one batch."""

    jobs: tuple[JobFinished, ...]


@dataclass(frozen=True, slots=True)
class JobLost(Event):
    """A job was lost with so many workers that it is dead; told by who finds it."""

    job_id: int
    type: str
    queue: str
    attempt: int
    schedule: str | None


@dataclass(frozen=True, slots=True)
class JobsRescued(Event):
    """Jobs of a lost worker went back to the queue, that were not found when it was expelled."""

    count: int


@dataclass(frozen=True, slots=True)
class JobStopping(Event):
    """A running job was told to stop, as somebody asked for; `JobFinished` tells how it ended."""

    job_id: int
    type: str
    reason: str


@dataclass(frozen=True, slots=True)
class FinishRefused(Event):
    """Results that came after the job had been given to another worker; they were dropped."""

    job_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class JobsReturned(Event):
    """Claimed jobs went back to the queue: they were not started, or cut short by a stop."""

    count: int


@dataclass(frozen=True, slots=True)
class SlotsUsed(Event):
    """How many of the worker's slots are busy."""

    busy: int
    free: int


@dataclass(frozen=True, slots=True)
class JobsPruned(Event):
    """Finished jobs past their retention were deleted."""

    count: int


# ---- server


@dataclass(frozen=True, slots=True)
class RequestServed(Event):
    """An HTTP request was answered; `route` is the pattern, never the path."""

    method: str
    route: str
    status: int
    seconds: float
