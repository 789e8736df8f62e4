"""Statement by statement, and the pure functions in between: where the time of the hot paths goes.

Ours are the very statements that crons and workers send, on one plain connection; bare is the SQL
that does the least for the same end, on the same rows.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from croniter import croniter

from ops.benchmarks import herd
from ops.benchmarks.bench import Figure, Ground, bare
from pillars.cron.definition import Timing
from pillars.cron.fires import next_fire
from pillars.cron.firing import BATCH, FIRE, parameters
from pillars.cron.plan import Due, plan_fires
from pillars.cron.ticker import DUE
from pillars.db.connection import PLANNED_ONCE
from pillars.queue.jobs import SQL as QUEUE
from pillars.queue.lanes import CLAIM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    import psycopg

    from pillars.cron.plan import Plan
    from pillars.db.database import Database

_CLAIMED = 500
_EXPRESSIONS = 20_000
_MEMBER = """
INSERT INTO pillars.members (id, role, name, state, pid, app_version)
VALUES (%s, 'worker', 'bench', 'active', 1, '0')
"""
_JOBS = """
INSERT INTO pillars.jobs (type, args) SELECT 'noop', '{"n": 1}' FROM generate_series(1, %s)
"""
_CLAIM = """
UPDATE pillars.jobs SET state = 'running', worker_id = %s, attempt = attempt + 1, started_at = now()
WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM pillars.jobs
    WHERE finished_at IS NULL AND queue = 'default' AND priority = 0 AND gate = 'open'
      AND run_at <= now() AND state = 'available'
    ORDER BY run_at, id LIMIT %s FOR UPDATE SKIP LOCKED
)) RETURNING id, type, args
"""
_FINISH = """
UPDATE pillars.jobs SET state = 'succeeded', finished_at = now() WHERE id = ANY(%s::bigint[])
"""


async def stating(ground: Ground) -> list[Figure]:
    """Microseconds for each schedule or job, the database's and the driver's together."""
    poll = Figure("poll, for each schedule found", "us")
    plan = Figure("plan, for each fire", "us")
    fire = Figure("fire statement, for each fire", "us", goal="<= 1.25 of bare")
    empty = Figure(f"poll that finds nothing, {ground.size:,} schedules", "us", goal="<= 100 us")
    claim = Figure(f"claim {_CLAIMED}, for each job", "us")
    finish = Figure(f"finish {_CLAIMED}, for each job", "us")
    tick = Figure("next tick of an expression, not seen before", "us")
    for number in range(ground.rounds):
        ground.tell(f"statements, round {number + 1}")
        async with ground.database() as database:
            _add(database, ground.size, (poll.bare, fire.bare, empty.bare), _bare_fires)
        async with ground.database() as database:
            found = (poll.ours, plan.ours, fire.ours, empty.ours)
            _add(database, ground.size, found, _our_fires)
        async with ground.database() as database:
            _add(database, ground.size, (claim.bare, finish.bare), _bare_jobs)
        async with ground.database() as database:
            _add(database, ground.size, (claim.ours, finish.ours), _our_jobs)
        ours, theirs = _next_ticks(number)
        tick.ours.append(ours)
        tick.bare.append(theirs)
    return [poll, plan, fire, empty, tick, claim, finish]


class _Watch:
    """Adds up how long each of several things takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, what: str, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever work returns
        began = time.perf_counter()
        result = work()
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - began
        return result


def _add(
    database: Database,
    size: int,
    figures: Sequence[list[float]],
    work: Callable[[psycopg.Connection[Any], int], Sequence[float]],
) -> None:
    herd.fill(database, size)
    with bare(database) as connection:
        connection.execute("SET enable_seqscan = off")
        for figure, seconds in zip(figures, work(connection, size), strict=True):
            figure.append(1e6 * seconds)


def _bare_fires(connection: psycopg.Connection[Any], size: int) -> Sequence[float]:
    watch = _Watch()

    def poll(what: str) -> list[tuple[int, int]]:
        rows: list[tuple[int, int]] = watch.time(
            what, lambda: connection.execute(herd.POLL, (BATCH,)).fetchall()
        )
        return rows

    for _ in range(size // BATCH):
        rows = poll("poll")
        params = ([row[0] for row in rows], [row[1] for row in rows])
        watch.time("fire", lambda params=params: connection.execute(herd.FIRE, params))
    for _ in range(BATCH):
        poll("empty")
    seconds = watch.seconds
    return seconds["poll"] / size, seconds["fire"] / size, seconds["empty"] / BATCH


def _our_fires(connection: psycopg.Connection[Any], size: int) -> Sequence[float]:
    watch = _Watch()
    for name, value in PLANNED_ONCE.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    cursor = connection.cursor(binary=True)
    looking = {
        "slots": herd.ALL_SLOTS,
        "since": float("-inf"),
        "now": None,
        "lookahead": herd.LOOKAHEAD,
        "except": [],
        "limit": BATCH,
    }

    def poll(what: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = watch.time(
            what, lambda: cursor.execute(DUE.sql, looking).fetchall()
        )
        return rows

    def plan(rows: Sequence[tuple[Any, ...]]) -> dict[str, object]:
        columns = len(Due._fields)
        now = rows[0][columns]
        plans: list[Plan] = [plan_fires(Due(*row[:columns]), now, herd.LOOKAHEAD) for row in rows]
        plans.sort(key=lambda each: each.due.id)
        return parameters(plans)

    for _ in range(size // BATCH):
        rows = poll("poll")
        params = watch.time("plan", lambda rows=rows: plan(rows))
        watch.time("fire", lambda params=params: cursor.execute(FIRE.sql, params).fetchall())
    # As crons do after a pass: what lies before is fired, and its old entries are not passed again.
    looking["since"] = time.time() - 5
    for _ in range(BATCH):
        poll("empty")
    seconds = watch.seconds
    return (*(seconds[what] / size for what in ("poll", "plan", "fire")), seconds["empty"] / BATCH)


def _bare_jobs(connection: psycopg.Connection[Any], size: int) -> Sequence[float]:
    watch, worker = _Watch(), _fill_queue(connection, size)
    for _ in range(size // _CLAIMED):
        params = (worker, _CLAIMED)
        rows = watch.time("claim", lambda p=params: connection.execute(_CLAIM, p).fetchall())
        ids = [row[0] for row in rows]
        watch.time("finish", lambda ids=ids: connection.execute(_FINISH, (ids,)))
    return watch.seconds["claim"] / size, watch.seconds["finish"] / size


def _our_jobs(connection: psycopg.Connection[Any], size: int) -> Sequence[float]:
    watch, worker = _Watch(), _fill_queue(connection, size)
    cursor = connection.cursor(binary=True)
    claiming = {
        "worker_id": worker,
        "queues": [],
        "limit": _CLAIMED,
        "limited": [],
        "now": None,
    }
    for _ in range(size // _CLAIMED):
        rows = watch.time("claim", lambda: cursor.execute(CLAIM.sql, claiming).fetchall())
        ended = {
            "ids": [row[0] for row in rows],
            "attempts": [1] * len(rows),
            "worker_id": worker,
            "now": None,
        }
        watch.time("finish", lambda p=ended: cursor.execute(QUEUE["succeed"].sql, p).fetchall())
    return watch.seconds["claim"] / size, watch.seconds["finish"] / size


def _fill_queue(connection: psycopg.Connection[Any], size: int) -> UUID:
    worker = uuid4()
    connection.execute(_MEMBER, (worker,))
    connection.execute(_JOBS, (size,))
    connection.execute("VACUUM ANALYZE pillars.jobs")
    return worker


def _next_ticks(number: int) -> tuple[float, float]:
    """Return microseconds a tick, ours and croniter's; nothing is asked for twice."""
    after = 1_900_000_000 + number * 86_400
    asked = [(f"{n % 60} {n // 60 % 24} * * {1 + n % 5}", after + n) for n in range(_EXPRESSIONS)]
    timings = [(Timing(cron=cron), instant) for cron, instant in asked]
    began = time.perf_counter()
    for timing, instant in timings:
        next_fire(timing, instant)
    ours = time.perf_counter() - began
    began = time.perf_counter()
    for cron, instant in asked[::20]:
        croniter(cron, datetime.fromtimestamp(instant, UTC)).get_next(float)
    theirs = 20 * (time.perf_counter() - began)
    return 1e6 * ours / _EXPRESSIONS, 1e6 * theirs / _EXPRESSIONS
