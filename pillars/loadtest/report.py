"""What is told at the end of a load test, as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pillars.loadtest.verdict import EDGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pillars.loadtest.orders import Order
    from pillars.loadtest.verdict import Counts, Course, Lateness
    from pillars.loadtest.watch import Look


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """What one process took: CPU seconds since its start, bytes at most; None where untold."""

    name: str
    role: str
    end: str
    cpu_seconds: float | None
    peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class Done:
    """A deed of the plan as it was done, `at` seconds after the window's start."""

    at: float
    deed: str
    name: str


@dataclass(frozen=True, slots=True)
class Report:
    """One run; durations in seconds, CPU of the window alone in CPU seconds.

    Attributes:
        order: what was asked for.
        when: the window's start, ISO 8601.
        where: machine, Python and database, for people.
        seconds: from the window's start until its end, or until its last tick was enqueued.
        counts, lateness, course: the verdict.
        behind: whether ticks were still to be enqueued when the run was over and waited for.
        fill_seconds: what it took to add the schedules.
        start_to_first_fire: from the start of the first cron to the first job; None where no tick
            was to be enqueued yet: with a look-ahead shorter than 4 s, or before a herd.
        fires: jobs that the crons wrote since the window's start; what CPU is divided by.
        cron_cpu: of all crons; None where it is not known.
        database_cpu: of the whole server.
        processes, deeds, looks: who took part, what was done, what was seen.
    """

    order: Order
    when: str
    where: str
    seconds: float
    counts: Counts
    lateness: Lateness
    course: Course
    behind: bool
    fill_seconds: float
    start_to_first_fire: float | None
    fires: int
    cron_cpu: float | None
    database_cpu: float | None
    processes: Sequence[ProcessFigures]
    deeds: Sequence[Done]
    looks: Sequence[Look]

    @property
    def fires_per_second(self) -> float:
        """Ticks enqueued a second."""
        return self.counts.enqueued / self.seconds

    @property
    def cron_cpu_per_fire(self) -> float | None:
        """Microseconds of the crons' CPU for each job they wrote."""
        return self.cron_cpu and 1e6 * self.cron_cpu / max(1, self.fires)

    @property
    def slots_moved(self) -> int:
        """Slots that changed hands in the window."""
        return sum(moved for at, _, _, moved, _ in self.course.rebalances if at >= 0)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        keys = ("at", "reason", "member", "moved", "crons")
        return {
            "when": self.when,
            "where": self.where,
            "order": asdict(self.order),
            "seconds": self.seconds,
            **asdict(self.counts),
            "fires_per_second": self.fires_per_second,
            "lateness_p50": self.lateness.p50,
            "lateness_p99": self.lateness.p99,
            "lateness_max": self.lateness.worst,
            "late": self.lateness.late,
            "behind": self.behind,
            "fill_seconds": self.fill_seconds,
            "start_to_first_fire": self.start_to_first_fire,
            "cron_cpu_seconds": self.cron_cpu,
            "cron_cpu_per_fire_us": self.cron_cpu_per_fire,
            "database_cpu_seconds": self.database_cpu,
            "slots_moved": self.slots_moved,
            "processes": [asdict(each) for each in self.processes],
            "plan": [asdict(each) for each in self.deeds],
            "rebalances": [dict(zip(keys, row, strict=True)) for row in self.course.rebalances],
            "histogram": {"edges": EDGES, "ticks": self.lateness.buckets},
            "timeline": {
                "keys": ["at", "ticks", "lateness_p99", "lateness_max"],
                "rows": self.course.timeline,
            },
            "throughput": {"keys": ["at", "enqueued", "ended"], "rows": self.course.throughput},
        }
