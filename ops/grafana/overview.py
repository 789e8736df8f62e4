"""Overview: is everything all right?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from panels import (
    OF_INSTANCE,
    Query,
    Section,
    graph,
    increase,
    make_dashboard,
    or_zero,
    quantile,
    rate,
    stat,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard
    from panels import AnyPanel

ALL = 'job=~".+"'
OURS = f'job="pillars", {OF_INSTANCE}'


def build() -> Dashboard:
    """Return the dashboard."""
    return make_dashboard(
        "pillars-overview",
        "Overview",
        "Is everything all right? All green: it is. What is red is explained in its panel.",
        [
            Section("Is everything all right?", [*_now(), *_last_hour()]),
            Section("Work", _work()),
            Section("Processes", _processes()),
        ],
    )


def _now() -> list[AnyPanel]:
    return [
        stat(
            "Alerts",
            "Alerts of ops/prometheus/alerts.yml that fire now. Good: 0. Each has a runbook.",
            "short",
            or_zero('sum(ALERTS{alertname=~"Pillars.+", alertstate="firing"})'),
            bad_from=1,
        ),
        stat(
            "Crons",
            "Live crons. Good: as many as you run; with one everything fires, with none nothing.",
            "short",
            'max(pillars_members{role="cron"})',
            good_from=1,
        ),
        stat(
            "Workers",
            "Live workers. Good: as many as you run; without any jobs wait.",
            "short",
            'max(pillars_members{role="worker"})',
            good_from=1,
        ),
        stat(
            "Oldest tick not enqueued",
            "How long a tick has been due that no cron has made a job of. Good: 0.",
            "s",
            "max(pillars_schedules_overdue_seconds)",
            bad_from=15,
        ),
        stat(
            "Slots without a living owner",
            "Good: 0. After a death they count for the lease (5 s); the sweep fires them.",
            "short",
            "max(pillars_ring_unowned_slots)",
            bad_from=1,
        ),
        stat(
            "Oldest waiting job",
            "How long the oldest job that is due has been waiting, over all queues. Good: seconds.",
            "s",
            or_zero("max(pillars_queue_oldest_seconds)"),
            bad_from=300,
        ),
    ]


def _last_hour() -> list[AnyPanel]:
    lateness = "pillars_cron_lateness_seconds"
    in_time = increase(f"{lateness}_bucket", 'le="1.0"', "1h")
    return [
        stat(
            "Late ticks, last hour",
            "Ticks enqueued more than a second after their time. Good: 0, save after an outage.",
            "short",
            f"{increase(f'{lateness}_count', ALL, '1h')} - {in_time}",
            bad_from=1,
        ),
        stat(
            "Missed ticks, last hour",
            "Ticks that will never run, as their schedule's catchup decides. Good: 0.",
            "short",
            increase("pillars_cron_fires_total", 'outcome="missed"', "1h"),
            bad_from=1,
        ),
        stat(
            "Dead jobs, last hour",
            "Jobs out of attempts. Good: 0. `pillars jobs list --state dead` tells which and why.",
            "short",
            or_zero(increase("pillars_jobs_finished_total", 'outcome="dead"', "1h")),
            bad_from=1,
        ),
        stat(
            "Workers busy",
            "Share of all workers' slots that run a job. Good: below 80 %, so that peaks fit in.",
            "percentunit",
            'sum(pillars_worker_slots{state="busy"}) / sum(pillars_worker_slots)',
            bad_from=0.95,
        ),
        stat(
            "Largest clock offset",
            "Between a member's clock and the database's. Good: below 0.1 s. Ticks do not depend "
            "on it: the database's clock alone counts.",
            "s",
            "max(abs(pillars_clock_offset_seconds))",
            bad_from=1,
        ),
        stat(
            "Oldest transaction",
            "Age of whatever keeps vacuum from removing dead rows. Good: below a minute.",
            "s",
            "max(pillars_db_oldest_xmin_age_seconds)",
            bad_from=300,
        ),
    ]


def _work() -> list[AnyPanel]:
    lateness = "pillars_cron_lateness_seconds"
    return [
        graph(
            "Ticks",
            "Ticks committed by all crons. Good: `enqueued` alone, as many as schedules demand.",
            "ops",
            Query(rate("pillars_cron_fires_total", by="outcome"), "{{outcome}}"),
            stacked=True,
        ),
        graph(
            "Lateness",
            "From a tick's instant to the commit of its job. Good: the lowest bucket, 1 ms: they "
            "are enqueued ahead of time.",
            "s",
            Query(quantile(0.5, lateness), "half are below"),
            Query(quantile(0.99, lateness), "99 % are below"),
        ),
        graph(
            "Jobs",
            "Attempts that ended. Good: `succeeded`; `failed` ones are tried again, `dead` ones "
            "are not.",
            "ops",
            Query(rate("pillars_jobs_finished_total", by="outcome"), "{{outcome}}"),
            stacked=True,
        ),
        graph(
            "Waiting jobs",
            "Jobs that are due, by queue. Good: near 0, and back there after each peak.",
            "short",
            Query(or_zero('max by (queue) (pillars_queue_depth{state="available"})'), "{{queue}}"),
        ),
    ]


def _processes() -> list[AnyPanel]:
    return [
        graph(
            "Members",
            "Live processes by role. Good: steady. A dip is a death, filled by its replacement.",
            "short",
            Query("max by (role) (pillars_members)", "{{role}}"),
        ),
        graph(
            "Processor time",
            "Seconds of processor time a second, by process. Good: well below 1, the most that "
            "one process can use.",
            "short",
            Query(rate("process_cpu_seconds_total", OURS, by="name"), "{{name}}"),
        ),
        graph(
            "Memory",
            "Resident memory by process. Good: flat after the first minutes.",
            "bytes",
            Query(f"process_resident_memory_bytes{{{OURS}}}", "{{name}}"),
        ),
        graph(
            "Requests",
            "Requests answered by the servers, by status. Good: no 5xx.",
            "reqps",
            Query(rate("pillars_http_requests_total", by="status"), "{{status}}"),
            stacked=True,
        ),
        graph(
            "Request time",
            "How long a request takes. Good: tens of milliseconds.",
            "s",
            Query(quantile(0.5, "pillars_http_request_seconds"), "half are below"),
            Query(quantile(0.99, "pillars_http_request_seconds"), "99 % are below"),
        ),
        graph(
            "Loops that fail",
            "Passes that raised and were tried again, by loop. Good: 0; the log says why.",
            "ops",
            Query(or_zero(rate("pillars_loop_failures_total", by="loop")), "{{loop}}"),
        ),
    ]
