"""Queue and workers: does work get done, how long does it wait, what fails?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from panels import (
    OF_INSTANCE,
    OF_QUEUE,
    Query,
    Section,
    graph,
    heat_map,
    increase,
    make_dashboard,
    or_zero,
    quantile,
    rate,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard
    from panels import AnyPanel

BOTH = f"{OF_QUEUE}, {OF_INSTANCE}"
DELAY = "pillars_job_start_delay_seconds"
DURATION = "pillars_job_duration_seconds"
FINISHED = "pillars_jobs_finished_total"


def build() -> Dashboard:
    """Return the dashboard."""
    return make_dashboard(
        "pillars-queue",
        "Queue and workers",
        "Does work get done, how long does it wait, what fails?",
        [
            Section("Waiting", _waiting()),
            Section("Flow", _flow()),
            Section("Workers", _workers()),
        ],
        with_queue=True,
    )


def _waiting() -> list[AnyPanel]:
    return [
        graph(
            "Depth",
            "Unfinished jobs by queue and state. Good: `available` near 0. `scheduled` are for "
            "later, `failed` wait for their next attempt. Counted up to 10,000.",
            "short",
            Query(
                or_zero(f"max by (queue, state) (pillars_queue_depth{{{OF_QUEUE}}})"),
                "{{queue}} {{state}}",
            ),
        ),
        graph(
            "Oldest waiting job",
            "How long the oldest job that is due has been waiting. Good: seconds. It says more "
            "than the depth: a long queue that moves is no trouble.",
            "s",
            Query(
                or_zero(f"max by (queue) (pillars_queue_oldest_seconds{{{OF_QUEUE}}})"), "{{queue}}"
            ),
        ),
        heat_map(
            "Start delay",
            "From the instant a job was to run to its start, jobs by bucket. Good: the lowest "
            "rows; a cloud that rises is a queue that fills.",
            DELAY,
            BOTH,
        ),
        graph(
            "Start delay by queue",
            "99 % of the jobs wait less. Good: tens of milliseconds while workers have free slots.",
            "s",
            Query(quantile(0.99, DELAY, BOTH, by="queue"), "{{queue}}"),
        ),
    ]


def _flow() -> list[AnyPanel]:
    return [
        graph(
            "Enqueued",
            "Jobs enqueued by server, cron and workers, by queue; those that SQL enqueues are "
            "seen when they are finished. Good: no more than finished.",
            "ops",
            Query(rate("pillars_jobs_enqueued_total", BOTH, by="queue"), "{{queue}}"),
            stacked=True,
        ),
        graph(
            "Finished",
            "Attempts that ended, by outcome. Good: `succeeded`.",
            "ops",
            Query(rate(FINISHED, BOTH, by="outcome"), "{{outcome}}"),
            stacked=True,
        ),
        graph(
            "Finished by type",
            "Attempts that ended, by job type.",
            "ops",
            Query(rate(FINISHED, BOTH, by="type"), "{{type}}"),
            stacked=True,
        ),
        graph(
            "Failures by type",
            "Attempts that failed (to be tried again) or made a job dead. Good: none.",
            "ops",
            Query(
                rate(FINISHED, f'outcome=~"failed|dead", {BOTH}', by="type, outcome"),
                "{{type}} {{outcome}}",
            ),
        ),
        graph(
            "Dead jobs, last hour",
            "Jobs given up, by type. Good: 0. `pillars jobs list --state dead` tells why.",
            "short",
            Query(increase(FINISHED, f'outcome="dead", {BOTH}', "1h", by="type"), "{{type}}"),
        ),
        graph(
            "Duration by type",
            "How long attempts run; 99 % are below. Good: far below the type's timeout.",
            "s",
            Query(quantile(0.99, DURATION, BOTH, by="type"), "{{type}}"),
        ),
        heat_map(
            "Duration",
            "How long attempts run, by bucket. Good: a steady pattern; what rises has got slow.",
            DURATION,
            BOTH,
        ),
    ]


def _workers() -> list[AnyPanel]:
    busy = f'sum by (name) (pillars_worker_slots{{state="busy", {OF_INSTANCE}}})'
    every = f"sum by (name) (pillars_worker_slots{{{OF_INSTANCE}}})"
    return [
        graph(
            "Saturation",
            "Share of each worker's slots that run a job. Good: below 80 %; at 100 % jobs wait.",
            "percentunit",
            Query(f"{busy} / {every}", "{{name}}"),
        ),
        graph(
            "Slots",
            "Slots of all workers, busy and free. Good: some are free.",
            "short",
            Query(f"sum by (state) (pillars_worker_slots{{{OF_INSTANCE}}})", "{{state}}"),
            stacked=True,
        ),
    ]
