"""Every metric there is, in one table: registration and the README derive from it.

Names, labels and units are a contract with dashboards and alerts. Durations are in seconds. Label
values are bounded: never an id, a path or a user's text.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a metric behaves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


class Merge(StrEnum):
    """How the gauges of several processes that report as one become one."""

    SUM = "sum"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: `roles` are the processes that export it, `buckets` a histogram's bounds.

    `merge` is set for the gauges of a worker, of which one parent may report several as one.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    roles: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    database_wide: bool = False
    merge: Merge | None = None


def metrics_of(role: str) -> tuple[Metric, ...]:
    """Return the metrics that a process of this role exports."""
    return tuple(metric for metric in METRICS if role in metric.roles)


def markdown_table() -> str:
    """Return the table of all metrics as the README has it."""
    rows = [
        "| Metric | Kind | Labels | Exported by | Meaning |",
        "|---|---|---|---|---|",
    ]
    rows += [
        f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels) or '-'} "
        f"| {', '.join(metric.roles)} | {metric.help} |"
        for metric in METRICS
    ]
    return "\n".join(rows)


_ALL = ("server", "worker", "cron")
_CRON = ("cron",)
_WORKER = ("worker",)
# Figures of the whole database come from one kind of process, so that no sum counts them twice.
_SERVER = ("server",)

_LATENESS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_PASS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_WAIT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0, 3600.0)
_RUN = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0, 900.0, 3600.0)
_REQUEST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

METRICS: tuple[Metric, ...] = (
    # ---- cron
    Metric(
        "pillars_cron_fires_total",
        Kind.COUNTER,
        ("outcome",),
        _CRON,
        "Ticks this process committed, by outcome: enqueued, missed, duplicate and others.",
    ),
    Metric(
        "pillars_cron_lateness_seconds",
        Kind.HISTOGRAM,
        (),
        _CRON,
        "From the instant of a tick to the commit of its job; early counts as 0.",
        _LATENESS,
    ),
    Metric(
        "pillars_cron_owned_slots",
        Kind.GAUGE,
        (),
        _CRON,
        "Slots of the ring this process owns; all live crons together own 4096.",
    ),
    Metric(
        "pillars_cron_owned_schedules",
        Kind.GAUGE,
        (),
        _CRON,
        "Enabled schedules in the slots this process owns.",
    ),
    Metric(
        "pillars_cron_overdue_schedules",
        Kind.GAUGE,
        (),
        _CRON,
        "Schedules that the last pass of this process found more than a second overdue.",
    ),
    Metric(
        "pillars_schedules_overdue_seconds",
        Kind.GAUGE,
        (),
        _SERVER,
        "How long the oldest tick that is due has not been enqueued, whoever should have; "
        "0 when none is.",
        database_wide=True,
    ),
    Metric(
        "pillars_cron_pass_seconds",
        Kind.HISTOGRAM,
        (),
        _CRON,
        "How long a pass over everything that was due took.",
        _PASS,
    ),
    Metric(
        "pillars_cron_last_pass_timestamp_seconds",
        Kind.GAUGE,
        (),
        _CRON,
        "When the last pass was completed, by the wall clock of this process.",
    ),
    Metric(
        "pillars_cron_swept_fires_total",
        Kind.COUNTER,
        (),
        _CRON,
        "Ticks this process enqueued because their owner had not in time.",
    ),
    Metric(
        "pillars_cron_lost_races_total",
        Kind.COUNTER,
        (),
        _CRON,
        "Ticks this process tried to fire when another one already had; harmless.",
    ),
    # ---- cluster
    Metric(
        "pillars_ring_version",
        Kind.GAUGE,
        (),
        ("server", "cron"),
        "Version of the ring: on a server the one in force, on a cron the one it goes by, 0 while "
        "it is no member.",
    ),
    Metric(
        "pillars_ring_unowned_slots",
        Kind.GAUGE,
        (),
        _SERVER,
        "Slots of the ring whose owner is no cron with a heartbeat within the lease.",
        database_wide=True,
    ),
    Metric(
        "pillars_ring_moves_total",
        Kind.COUNTER,
        ("reason",),
        _ALL,
        "Slots to which this process gave another owner, by reason: join, leave, expel.",
    ),
    Metric(
        "pillars_members",
        Kind.GAUGE,
        ("role",),
        _SERVER,
        "Live processes by role, without those that are leaving.",
        database_wide=True,
    ),
    Metric(
        "pillars_heartbeat_seconds",
        Kind.HISTOGRAM,
        (),
        _ALL,
        "How long a heartbeat took to be committed.",
        _PASS,
    ),
    Metric(
        "pillars_clock_offset_seconds",
        Kind.GAUGE,
        (),
        _ALL,
        "Wall clock of this process minus the database's; schedules go by the database's alone.",
        merge=Merge.MAX,
    ),
    # ---- queue and worker
    Metric(
        "pillars_jobs_enqueued_total",
        Kind.COUNTER,
        ("queue",),
        _ALL,
        "Jobs this process committed to a queue.",
    ),
    Metric(
        "pillars_jobs_finished_total",
        Kind.COUNTER,
        ("queue", "type", "outcome"),
        _ALL,
        "Attempts that ended, by outcome: succeeded, failed (to be retried), dead, cancelled, "
        "snoozed, unknown (its type, here: put back); jobs that die of lost workers are counted by "
        "whoever finds them.",
    ),
    Metric(
        "pillars_job_duration_seconds",
        Kind.HISTOGRAM,
        ("queue", "type"),
        _WORKER,
        "How long an attempt ran.",
        _RUN,
    ),
    Metric(
        "pillars_job_start_delay_seconds",
        Kind.HISTOGRAM,
        ("queue",),
        _WORKER,
        "From the instant a job was to run to its start.",
        _WAIT,
    ),
    Metric(
        "pillars_worker_slots",
        Kind.GAUGE,
        ("state",),
        _WORKER,
        "How many jobs this worker can run at once, by state: busy, free.",
        merge=Merge.SUM,
    ),
    Metric(
        "pillars_queue_depth",
        Kind.GAUGE,
        ("queue", "state"),
        _SERVER,
        "Unfinished jobs: available (due), scheduled (later), running, failed (to be retried); "
        "counted up to 10,000 for each queue and priority, to less where there are more than 20.",
        database_wide=True,
    ),
    Metric(
        "pillars_queue_oldest_seconds",
        Kind.GAUGE,
        ("queue",),
        _SERVER,
        "How long the oldest job that is due has been waiting; those parked behind their "
        "concurrency key do not count.",
        database_wide=True,
    ),
    # ---- server
    Metric(
        "pillars_http_requests_total",
        Kind.COUNTER,
        ("method", "route", "status"),
        _SERVER,
        "Requests answered, by method, pattern of the route and status.",
    ),
    Metric(
        "pillars_http_request_seconds",
        Kind.HISTOGRAM,
        ("method", "route"),
        _SERVER,
        "How long a request took to be answered.",
        _REQUEST,
    ),
    # ---- database and process
    Metric(
        "pillars_db_oldest_xmin_age_seconds",
        Kind.GAUGE,
        (),
        _SERVER,
        "Age of the oldest transaction, prepared transaction or replication slot that keeps "
        "vacuum from removing dead rows; 0 when there is none.",
        database_wide=True,
    ),
    Metric(
        "pillars_db_statement_seconds",
        Kind.HISTOGRAM,
        ("statement",),
        _ALL,
        "How long the database took to answer a statement, by the statement's name; those inside "
        "a longer transaction are not counted.",
        _PASS,
    ),
    Metric(
        "pillars_db_dead_tuples",
        Kind.GAUGE,
        ("table",),
        _SERVER,
        "Dead rows in a table of Pillars, as PostgreSQL estimates them.",
        database_wide=True,
    ),
    Metric(
        "pillars_db_snapshot_timestamp_seconds",
        Kind.GAUGE,
        (),
        _SERVER,
        "When the database-wide figures were read, by the wall clock of this process; once they "
        "are older than a minute they are left out until they can be read again.",
    ),
    Metric(
        "pillars_loop_failures_total",
        Kind.COUNTER,
        ("loop",),
        _ALL,
        "Passes of a loop that raised and were tried again.",
    ),
    Metric(
        "pillars_build_info",
        Kind.INFO,
        ("version", "role"),
        _ALL,
        "What runs here; always 1.",
    ),
)
