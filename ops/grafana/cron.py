"""Cron: do ticks fire in time, and who fires them?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from panels import (
    OF_INSTANCE,
    WINDOW,
    Query,
    Section,
    graph,
    heat_map,
    increase,
    make_dashboard,
    quantile,
    rate,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard
    from panels import AnyPanel

LATENESS = "pillars_cron_lateness_seconds"


def build() -> Dashboard:
    """Return the dashboard."""
    return make_dashboard(
        "pillars-cron",
        "Cron",
        "Do ticks fire in time, and who fires them?",
        [
            Section("In time?", _in_time()),
            Section("The ring", _ring()),
            Section("Each cron", _each()),
        ],
    )


def _in_time() -> list[AnyPanel]:
    return [
        heat_map(
            "Lateness",
            "From a tick's instant to the commit of its job, ticks by bucket. Good: all in the "
            "lowest row, since ticks are enqueued ahead of time; anything above 1 s is late.",
            LATENESS,
        ),
        graph(
            "Lateness, percentiles",
            "Good: 1 ms, the lowest bucket, also while crons die or join. Higher after an "
            "outage, while missed ticks are made up for.",
            "s",
            *(Query(quantile(q, LATENESS), f"{q * 100:g} % are below") for q in (0.5, 0.99, 1)),
        ),
        graph(
            "Ticks by outcome",
            "Good: `enqueued`. `missed`: too late and not made up for; `skipped`: the earlier job "
            "still ran (overlap: skip); `duplicate`: a job was there already, harmless.",
            "ops",
            Query(rate("pillars_cron_fires_total", by="outcome"), "{{outcome}}"),
            stacked=True,
        ),
        graph(
            "Overdue",
            "How long the oldest tick that is due has not been enqueued by anyone. Good: 0.",
            "s",
            Query("max(pillars_schedules_overdue_seconds)", "oldest tick"),
        ),
    ]


def _ring() -> list[AnyPanel]:
    return [
        graph(
            "Shares of the ring",
            "Slots each cron owns. Good: equal shares that add up to 4096. At a hand-over both "
            "owners may count a slot for a moment.",
            "short",
            Query(f"sum by (name) (pillars_cron_owned_slots{{{OF_INSTANCE}}})", "{{name}}"),
            stacked=True,
        ),
        graph(
            "Schedules owned",
            "Enabled schedules in the slots of each cron, counted each half minute. Good: about "
            "equal; few schedules spread less evenly than many.",
            "short",
            Query(f"sum by (name) (pillars_cron_owned_schedules{{{OF_INSTANCE}}})", "{{name}}"),
            stacked=True,
        ),
        graph(
            "Rebalances",
            "Slots that got another owner, by reason. Good: only when you start or stop crons "
            "(`join`, `leave`); `expel` is a cron that died or hung.",
            "short",
            Query(
                increase("pillars_ring_moves_total", OF_INSTANCE, WINDOW, by="reason"),
                "{{reason}}",
            ),
            bars=True,
        ),
        graph(
            "Slots without a living owner",
            "Good: 0. After a death they count until the lease is over; the sweep fires them.",
            "short",
            Query("max(pillars_ring_unowned_slots)", "slots"),
        ),
        graph(
            "Version of the ring",
            "The version in force and the one each cron goes by. Good: one line; a cron may lag "
            "by a second. 0: it is no member now.",
            "short",
            Query('max(pillars_ring_version{role="server"})', "in force"),
            Query(f'pillars_ring_version{{role="cron", {OF_INSTANCE}}}', "{{name}}"),
        ),
        graph(
            "Swept ticks and lost races",
            "Swept: ticks another cron enqueued because their owner had not; good: 0, save for "
            "seconds after a death. Lost races: two tried, one did; harmless, and few.",
            "ops",
            Query(rate("pillars_cron_swept_fires_total", by="name"), "{{name}} swept"),
            Query(rate("pillars_cron_lost_races_total", by="name"), "{{name}} lost races"),
        ),
    ]


def _each() -> list[AnyPanel]:
    return [
        graph(
            "Ticks by cron",
            "Ticks each cron enqueued. Good: in proportion to the schedules it owns.",
            "ops",
            Query(
                rate("pillars_cron_fires_total", f'outcome="enqueued", {OF_INSTANCE}', "name"),
                "{{name}}",
            ),
            stacked=True,
        ),
        graph(
            "Overdue schedules, as each cron sees them",
            "Schedules a pass found more than a second overdue. Good: 0.",
            "short",
            Query(f"sum by (name) (pillars_cron_overdue_schedules{{{OF_INSTANCE}}})", "{{name}}"),
        ),
        graph(
            "Time of a pass",
            "How long a pass over everything due takes; 99 % are below. Good: far below the "
            "look-ahead (5 s), or ticks get late.",
            "s",
            Query(quantile(0.99, "pillars_cron_pass_seconds", by="name"), "{{name}}"),
        ),
        graph(
            "Age of the last pass",
            "Good: about a second, whatever there is to do. A line that climbs is a cron that "
            "hangs.",
            "s",
            Query(
                f"time() - pillars_cron_last_pass_timestamp_seconds{{{OF_INSTANCE}}}", "{{name}}"
            ),
        ),
        graph(
            "Clock offset",
            "Each process's clock minus the database's. Good: within 0.1 s. Ticks do not depend "
            "on it.",
            "s",
            Query(f"pillars_clock_offset_seconds{{{OF_INSTANCE}}}", "{{name}}"),
        ),
    ]
