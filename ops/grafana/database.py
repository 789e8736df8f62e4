"""Database: does PostgreSQL answer fast, and does it stay clean?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from panels import Query, Section, graph, heat_map, make_dashboard, quantile, rate

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard
    from panels import AnyPanel

STATEMENT = "pillars_db_statement_seconds"
HEARTBEAT = "pillars_heartbeat_seconds"


def build() -> Dashboard:
    """Return the dashboard."""
    return make_dashboard(
        "pillars-database",
        "Database",
        "Does PostgreSQL answer fast, and does it stay clean?",
        [Section("Answers", _answers()), Section("Upkeep", _upkeep())],
    )


def _answers() -> list[AnyPanel]:
    return [
        graph(
            "Statement time",
            "How long each statement takes; 99 % are below. Good: milliseconds; `fire`, `claim` "
            "and `succeed` are batches of up to a thousand rows. All slow: the database is; one "
            "slow: its plan is.",
            "s",
            Query(quantile(0.99, STATEMENT, by="statement"), "{{statement}}"),
        ),
        graph(
            "Where the time goes",
            "Seconds a second that each statement takes, over all processes. Good: the work "
            "itself (`fire`, `claim`, `succeed`) leads.",
            "short",
            Query(rate(f"{STATEMENT}_sum", by="statement"), "{{statement}}"),
            stacked=True,
        ),
        graph(
            "Statements",
            "Statements a second by name. Good: steady; each is a batch.",
            "ops",
            Query(rate(f"{STATEMENT}_count", by="statement"), "{{statement}}"),
            stacked=True,
        ),
        heat_map(
            "Heartbeats",
            "How long a heartbeat takes to be committed: a small write each second by each "
            "process. Good: milliseconds. Above half a lease (2.5 s) nobody may expel the dead.",
            HEARTBEAT,
        ),
        graph(
            "Heartbeat time by process",
            "99 % are below. Good: milliseconds. One process above the others: its network; all: "
            "the database's disk.",
            "s",
            Query(quantile(0.99, HEARTBEAT, by="name"), "{{name}}"),
        ),
        graph(
            "Age of these figures",
            "How long ago a server read the figures of the whole database. Good: about 5 s; past "
            "a minute they are left out.",
            "s",
            Query("time() - max(pillars_db_snapshot_timestamp_seconds)", "age"),
        ),
    ]


def _upkeep() -> list[AnyPanel]:
    return [
        graph(
            "Dead rows",
            "Rows that vacuum has yet to remove, by table. Good: a saw-tooth of some thousands; "
            "a line that only climbs slows down every claim.",
            "short",
            Query("max by (table) (pillars_db_dead_tuples)", "{{table}}"),
        ),
        graph(
            "Oldest transaction",
            "Age of the oldest transaction, prepared transaction or replication slot that holds "
            "back vacuum. Good: seconds; 0 when there is none.",
            "s",
            Query("max(pillars_db_oldest_xmin_age_seconds)", "age"),
        ),
    ]
