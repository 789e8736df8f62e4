"""Each statement's plan is held to the index its `-- index:` line names, at a million jobs.

Four states of knowledge, because a plan is rarely made with the newest: `fresh` statistics; `stale`
ones, from when the tables were almost empty; `idle` ones, from when no job was running; and plans
made while the tables were `small`, which a prepared statement keeps until autovacuum comes by.
Two kinds of plan, because psycopg prepares what it sees often: with the values known (`custom`) and
without (`generic`).
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest

from pillars.cron.backfill import BACKFILL
from pillars.cron.firing import FIRE, FIRE_AND_CANCEL
from pillars.cron.life import FIRE_BY_HAND
from pillars.cron.ticker import DUE, DUE_LAST
from pillars.db.connection import PLANNED_ONCE, conninfo
from pillars.db.statements import Statement, load_statements
from pillars.queue.lanes import (
    CLAIM,
    CLAIM_ON,
    CLAIM_WITHIN,
    CLAIM_WITHIN_ON,
    DEPTH,
    LIMITED_DUE,
    LIMITED_DUE_ON,
    NEXT_DUE,
    NEXT_DUE_ON,
    Pages,
)
from tests.conftest import TEMPLATE, database_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pillars.ground.settings import Secret

OWNERS = ("queue", "cluster", "cron", "telemetry", "server", "loadtest")
# Parts of statements that are explained as a whole.
PARTS = {
    "due", "soonest_first", "latest_first",
    "move_cursors", "insert_ticks", "cancel_overlapped", "count_fired", "tick_by_hand",
    "tell_by_hand", "ticks_of_backfill", "backfill_ticks", "count_backfilled",
    "all_lanes", "known_lanes", "claim", "next_due", "limited_due", "depth",
    "held_in_page", "give_back_others", "rescue",
}  # fmt: skip
PAGES = {
    statement.name: statement
    for name in ("give_back_others", "rescue")
    for statement, _ in (Pages(name).page(None), Pages(name).page([]))
}
LANES = {
    "claim": CLAIM,
    "claim_on": CLAIM_ON,
    "claim_within": CLAIM_WITHIN,
    "claim_within_on": CLAIM_WITHIN_ON,
    "limited_due": LIMITED_DUE,
    "limited_due_on": LIMITED_DUE_ON,
    "next_due": NEXT_DUE,
    "next_due_on": NEXT_DUE_ON,
}
HOT = {
    *LANES,
    "succeed",
    "fail",
    "give_back",
    "due",
    "due_last",
    "overdue",
    "upcoming",
    "fire",
    "heartbeat",
}
BIG = {"jobs", "schedules"}
KNOWLEDGE = ("fresh", "stale", "idle", "small")

NOW = datetime(2030, 1, 1, tzinfo=UTC)
WORKER = UUID(int=1)
BATCH = list(range(1, 1001))
PARAMS: dict[str, Any] = {
    "after": 100_000,
    "ahead_by": 1.0,
    "at": NOW,
    "attempts": [1] * 1000,
    "channel": "pillars_jobs",
    "behind": 100,
    "cron_patience": 3.0,
    "days": 30,
    "error": "lost",
    "errors": ["boom"] * 1000,
    "results": ["{}"] * 1000,
    "except": [7],
    "fire_at": [1_900_000_000.0] * 1000,
    "fire_until": [None] * 1000,
    "force": False,
    "from_ids": [1],
    "from_run_at": [datetime(2026, 1, 1, tzinfo=UTC)],
    "held": [1, 2, 3],
    "id": 150_000,
    "started": False,
    "ids": BATCH,
    "keys": ["k1", "k2"],
    "lane_priorities": [0],
    "lane_queues": ["q1"],
    "last": [1_900_000_000.0] * 1000,
    "late_by": 0.25,
    "lease": 5.0,
    "limit": 1000,
    "limited": [],
    "lock": 1,
    "lookahead": 5.0,
    "microseconds": 1,
    "most_rescues": 5,
    "name": "s150000",
    "next": [1_900_000_060.0] * 1000,
    "now": None,
    "outcome": None,
    "patience": 3.0,
    "plain": [1] * 1000,
    "planned": 1000,
    "each": False,
    "priorities": [0],
    "progress_age": 0.0,
    "queue": "q1",
    "queues": [],
    "reason": "asked",
    "reasons": [None] * 1000,
    "retention": 86_400.0,
    "retention_failed": 86_400.0,
    "retry_in": [30.0] * 1000,
    "ring_version": 1,
    "rooms": [5],
    "rows": json.dumps([]),
    "run_at": [1_900_000_000.0] * 1000,
    "schedule_id": 150_000,
    "schedule_ids": [150_000],
    "schedules_digest": "d",
    "sources": ["file"],
    "since": float("-inf"),
    "slots": b"\xff" * 512,
    "started_at": [NOW] * 1000,
    "states": ["failed"] * 1000,
    "tick_ids": BATCH,
    "until": 1_900_000_000.0,
    "ticks": [None] * 1000,
    "versions": [1] * 1000,
    "window": 0.5,
    "worker_id": WORKER,
    "worker_ids": [WORKER],
}
# The same names with other meanings.
OWN_PARAMS: dict[str, dict[str, Any]] = {
    "admit": {"ids": BATCH[:20], "further": 500},
    "backfill": {"id": 150_000},
    "claim of all_lanes": {"limit": 20},
    "claim of known_lanes": {"limit": 20},
    "claim_within of all_lanes": {"limit": 20, "limited": ["q1"]},
    "claim_within of known_lanes": {"limit": 20, "limited": ["q1"]},
    "count_holding": {"names": ["q1"], "limits": [5]},
    "depth of all_lanes": {"limit": 100_000, "total": 1_000_000},
    "heartbeat": {"id": WORKER},
    "fire_by_hand": {"id": 150_000},
    "fail": {"unstarted": [False] * 1000},
    "next_due of all_lanes": {"since": NOW},
    "next_due of known_lanes": {"since": NOW},
    "history": {"limit": 50, "before": None},
    "list_schedules": {"after": "s150000", "source": None, "enabled": None, "limit": 100},
    "hold_schedules": {"ids": BATCH},
    "known_schedules": {"names": [f"s{n}" for n in BATCH]},
    "move_on": {"names": [f"s{n}" for n in BATCH]},
    "move_origins": {"names": ["s150000"], "sources": ["file"], "origins": ["a.yaml:1"]},
    "missed_runs": {"first": 1_900_000_000.0, "last": 1_900_000_000.0},
    "prune": {"limit": 5_000},
    "aim": {"ids": BATCH, "next": [1_900_000_060] * 1000},
    "aimed_before": {"queue": "q1", "limit": 20_000},
    "remove_schedules": {"ids": [150_000]},
    "set_cursor": {"paused": False, "next": 1_900_000_000.0, "now": NOW},
    "withdraw_ticks": {"now": NOW},
    "soonest_schedules": {"source": None, "limit": 100},
    "stuck_keys": {"after_key": "", "after_queue": "", "limit": 500},
}

MEMBERS = """
INSERT INTO pillars.members (id, role, name, state, pid, app_version)
SELECT lpad(n::text, 32, '0')::uuid, 'worker', 'w' || n, 'active', n, '0'
FROM generate_series(1, 5) AS n
"""
# One schedule in a hundred is due; the others come within the hour.
FILL_SCHEDULES = """
INSERT INTO pillars.schedules (
    name, slot, next_fire_at, ahead, timing, job, definition, fingerprint
)
SELECT 's' || n, hashtext('s' || n) & 4095,
    now() + make_interval(secs => CASE WHEN n % 100 = 0 THEN -1 ELSE n % 3600 END), n % 10 > 0,
    'every minute', 'noop', 'null', 'x'
FROM generate_series(1, {last}) AS n
"""
FILL_JOBS = """
INSERT INTO pillars.jobs (schedule_id, fire_at, run_at, finished_at, state, type, queue, priority)
SELECT CASE WHEN n % 3 > 0 THEN n % 200000 + 1 END,
    now() - make_interval(secs => n), now() - make_interval(secs => n), now(), 'succeeded', 'noop',
    'q' || n % 4, 0
FROM generate_series(1, {ended}) AS n;
INSERT INTO pillars.jobs (run_at, type, queue, priority)
SELECT now() + make_interval(secs => CASE WHEN n % 2 = 0 THEN -n ELSE n END / 100.0), 'noop',
    'q' || n % 4, n % 3
FROM generate_series(1, {waiting}) AS n;
INSERT INTO pillars.jobs (run_at, type, queue, gate, concurrency_key, concurrency_limit, unique_key)
SELECT now() - make_interval(secs => n), 'noop', 'q' || n % 4, 'parked', 'k' || n % 100, 1, 'u' || n
FROM generate_series(1, {waiting} / 8) AS n;
"""
START_JOBS = f"""
UPDATE pillars.jobs SET state = 'running', attempt = 1, worker_id = '{WORKER}'
WHERE id IN (SELECT id FROM pillars.jobs WHERE state = 'available' AND run_at < now() LIMIT 1000)
"""


def every_statement() -> dict[str, Statement]:
    """All that name an index or are hot, by a name unique among them."""
    found = {}
    for owner in OWNERS:
        for name, statement in load_statements(f"pillars.{owner}").items():
            if name not in PARTS and (statement.index or name in HOT):
                assert name not in found
                found[name] = statement
    whole = (DUE, DUE_LAST, FIRE, FIRE_AND_CANCEL, FIRE_BY_HAND, BACKFILL)
    return found | {each.name: each for each in whole} | LANES | PAGES | {"depth": DEPTH}


STATEMENTS = every_statement()


@pytest.fixture(scope="module")
def servers(postgres: Secret) -> Iterator[Callable[[str], Secret]]:
    """The URL of a database for each state of knowledge."""
    with psycopg.connect(postgres.reveal(), autocommit=True) as admin:
        fill(admin, postgres)
        yield lambda knowledge: database_url(postgres, f"plans_{knowledge}")
        for knowledge in KNOWLEDGE:
            admin.execute(f"DROP DATABASE plans_{knowledge} WITH (FORCE)")


def fill(admin: psycopg.Connection[Any], postgres: Secret) -> None:
    """Make all states, each from the one before."""

    def copy(name: str, template: str) -> None:
        # By the pages written, not by the log: that is how 14 does it, which has no choice.
        strategy = "STRATEGY file_copy" if admin.info.server_version >= 150_000 else ""
        admin.execute(f"CREATE DATABASE plans_{name} TEMPLATE {template} {strategy}")

    def run(name: str, *statements: str) -> None:
        url = database_url(postgres, f"plans_{name}")
        with psycopg.connect(url.reveal(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    copy("small", TEMPLATE)
    run("small", MEMBERS, FILL_SCHEDULES.format(last=10), FILL_JOBS.format(ended=10, waiting=4))
    run("small", "VACUUM ANALYZE")
    copy("stale", "plans_small")
    run("stale", "TRUNCATE pillars.schedules, pillars.jobs")
    run("stale", FILL_SCHEDULES.format(last=200_000))
    run("stale", FILL_JOBS.format(ended=900_000, waiting=90_000))
    copy("idle", "plans_stale")
    run("stale", START_JOBS)
    run("idle", "VACUUM ANALYZE", START_JOBS)
    copy("fresh", "plans_idle")
    run("fresh", "VACUUM ANALYZE")


@pytest.mark.parametrize("name", STATEMENTS)
@pytest.mark.parametrize("kind", ["custom", "generic"])
@pytest.mark.parametrize("knowledge", KNOWLEDGE)
def test_a_statement_uses_its_index_whatever_the_statistics_say(
    servers: Callable[[str], Secret],
    knowledge: str,
    kind: str,
    name: str,
) -> None:
    plan = explain(conninfo(servers(knowledge), "plans"), STATEMENTS[name], kind)

    assert BIG & scanned(plan) == set()
    assert STATEMENTS[name].index in {*indexes(plan), None}


@pytest.mark.parametrize("name", sorted(HOT))
@pytest.mark.parametrize("knowledge", ["fresh", "idle"])
def test_a_hot_statement_needs_no_settings_of_ours_to_use_its_index(
    servers: Callable[[str], Secret],
    knowledge: str,
    name: str,
) -> None:
    info = conninfo(servers(knowledge), "plans", limits=False)

    plan = explain(info, STATEMENTS[name], "custom")

    assert BIG & scanned(plan) == set()
    assert STATEMENTS[name].index in {*indexes(plan), None}


@pytest.mark.parametrize("name", ["due", "due_last", "overdue", "upcoming", "fire"])
@pytest.mark.parametrize("knowledge", KNOWLEDGE)
def test_what_a_ticker_plans_once_takes_the_first_rows_of_its_index_and_sorts_nothing(
    servers: Callable[[str], Secret],
    knowledge: str,
    name: str,
) -> None:
    info = conninfo(servers(knowledge), "plans", settings=PLANNED_ONCE)

    plan = explain(info, STATEMENTS[name], "generic")

    assert BIG & scanned(plan) == set()
    assert STATEMENTS[name].index in indexes(plan)
    assert [node for node in plan if "Sort" in node["Node Type"]] == []


def test_the_fire_statement_finds_a_tick_that_exists_by_its_unique_key(
    servers: Callable[[str], Secret],
) -> None:
    plan = explain(conninfo(servers("fresh"), "plans"), FIRE, "custom")

    assert {"schedules_pkey", "jobs_tick"} <= indexes(plan)


def test_a_scan_of_a_whole_table_would_be_seen(servers: Callable[[str], Secret]) -> None:
    careless = Statement("careless", "SELECT FROM pillars.jobs WHERE type = 'x'", "", None)

    plan = explain(conninfo(servers("fresh"), "plans"), careless, "custom")

    assert scanned(plan) == {"jobs"}


def explain(info: str, statement: Statement, kind: str) -> list[dict[str, Any]]:
    """All nodes of a statement's plan."""
    used = sorted(set(re.findall(r"%\((\w+)\)s", statement.sql)))
    values = {**PARAMS, **OWN_PARAMS.get(statement.name, {})}
    assert [name for name in used if name not in values] == []
    with psycopg.connect(info, autocommit=True) as connection:
        if kind == "custom":
            params = {name: values[name] for name in used}
            cursor = connection.execute(f"EXPLAIN (FORMAT JSON) {statement.sql}", params)
        else:
            # psycopg tells the server which parameters are floats, and operators depend on it.
            casts = {name: "::float8" * isinstance(values[name], float) for name in used}
            numbers = {name: f"${n}{casts[name]}" for n, name in enumerate(used, 1)}
            text = re.sub(r"%\((\w+)\)s", lambda match: numbers[match[1]], statement.sql)
            text = text.replace("%%", "%")
            # Not EXPLAIN (GENERIC_PLAN), which PostgreSQL 14 and 15 do not have.
            connection.execute("SET plan_cache_mode = force_generic_plan")
            connection.execute(f"PREPARE examined AS {text}")
            nulls = f"({', '.join(['NULL'] * len(used))})" if used else ""
            cursor = connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE examined{nulls}")
        ((answer,),) = cursor.fetchall()
    return list(nodes(answer[0]["Plan"]))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's node and all below it."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def scanned(plan: list[dict[str, Any]]) -> set[str]:
    """The tables that are read from end to end."""
    return {node["Relation Name"] for node in plan if node["Node Type"] == "Seq Scan"}


def indexes(plan: list[dict[str, Any]]) -> set[str]:
    """The indexes that are used, those that arbitrate a conflict among them."""
    used = {node["Index Name"] for node in plan if "Index Name" in node}
    return used.union(*(node.get("Conflict Arbiter Indexes", ()) for node in plan))
