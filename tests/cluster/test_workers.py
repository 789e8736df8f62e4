"""`pillars worker --processes N`: several processes that are operated, and report, as one."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.crew import Crew, eventually, one

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psycopg

    from pillars.ground.settings import Secret

pytestmark = pytest.mark.cluster
ENQUEUE = (
    "SELECT pillars.enqueue('crew.step', jsonb_build_object('seconds', %s::float8)) "
    "FROM generate_series(1, %s)"
)


@pytest.fixture
def crew(dsn: Secret, tmp_path: Path, sql: psycopg.Connection[Any]) -> Iterator[Crew]:
    sql.execute("CREATE TABLE crew (job_id bigint, attempt int)")
    crew = Crew(dsn, tmp_path)
    flags = ("--processes", "2", "--app", "crew_app:app", "--concurrency", "4")
    # Longer than a machine may stand still: nobody is to be expelled who was not killed.
    crew.start("worker", "w", *flags, PILLARS_LEASE="10")
    try:
        eventually("both workers have joined", lambda: names(sql) == ["w#1", "w#2"])
        yield crew
    finally:
        crew.end()
        # Its children notice within a second or so that their parent was killed.
        eventually("no worker is left", lambda: not any(map(alive, pids(sql))))


def names(sql: psycopg.Connection[Any]) -> list[str]:
    rows = sql.execute("SELECT name FROM pillars.members WHERE state = 'active' ORDER BY name")
    return [name for (name,) in rows.fetchall()]


def pids(sql: psycopg.Connection[Any]) -> list[int]:
    return [pid for (pid,) in sql.execute("SELECT pid FROM pillars.members").fetchall()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def get(sql: psycopg.Connection[Any], path: str) -> tuple[int, str]:
    url = one(sql, "SELECT min(url) FROM pillars.members")
    try:
        with urllib.request.urlopen(url + path, timeout=60) as response:  # noqa: S310 - our own
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def finished(sql: psycopg.Connection[Any]) -> float:
    start = 'pillars_jobs_finished_total{outcome="succeeded",queue="default",type="crew.step"} '
    lines = get(sql, "/metrics")[1].splitlines()
    return sum(float(line.removeprefix(start)) for line in lines if line.startswith(start))


def test_they_report_as_one(crew: Crew, sql: psycopg.Connection[Any]) -> None:
    def both_have_worked() -> bool:
        sql.execute(ENQUEUE, (0.05, 10))
        return bool(one(sql, "SELECT count(DISTINCT worker_id) = 2 FROM pillars.jobs"))

    eventually("both have worked", both_have_worked)
    jobs = one(sql, "SELECT count(*) FROM pillars.jobs")
    eventually("all jobs are counted", lambda: finished(sql) == jobs)
    eventually("all are ready", lambda: get(sql, "/readyz")[0] == 200)

    checks = json.loads(get(sql, "/readyz")[1])["checks"]
    free = 'pillars_worker_slots{state="free"} 8.0'

    assert one(sql, "SELECT count(DISTINCT url) FROM pillars.members") == 1
    assert set(checks) == {f"w#{n} {check}" for n in (1, 2) for check in ("claim", "database")}
    eventually("all slots are free", lambda: free in get(sql, "/metrics")[1])
    assert "starting 2 workers that report as one at http://" in crew.output("w")


def test_a_stop_drains_them_all(crew: Crew, sql: psycopg.Connection[Any]) -> None:
    sql.execute(ENQUEUE, (2, 8))
    eventually("all slots are busy", lambda: one(sql, "SELECT count(*) FROM crew") == 8)

    assert crew.stop("w") == [0]

    assert one(sql, "SELECT array_agg(DISTINCT state::text) FROM pillars.jobs") == ["succeeded"]
    assert one(sql, "SELECT count(*) FROM crew") == 8
    assert names(sql) == []


def test_one_that_is_killed_is_started_again_and_its_jobs_are_rescued(
    crew: Crew,
    sql: psycopg.Connection[Any],
    tmp_path: Path,
) -> None:
    sql.execute(ENQUEUE, (0.05, 20))
    eventually("the first jobs are counted", lambda: finished(sql) == 20)
    sql.execute(ENQUEUE, (10, 8))
    eventually("all slots are busy", lambda: one(sql, "SELECT count(*) FROM crew") == 28)
    killed = one(sql, "SELECT pid FROM pillars.members WHERE name = 'w#1'")

    os.mkfifo(gate := tmp_path / "gate")
    os.kill(killed, signal.SIGKILL)

    eventually("it is not ready", lambda: get(sql, "/readyz")[0] == 503)
    gate.write_bytes(b"")
    gate.unlink()
    eventually(
        "another one has taken its place",
        lambda: one(
            sql,
            "SELECT count(*) = 2 AND bool_and(pid <> %s) FROM pillars.members",
            killed,
        ),
    )
    eventually("all are ready again", lambda: get(sql, "/readyz")[0] == 200)
    eventually(
        "all jobs have succeeded",
        lambda: one(sql, "SELECT bool_and(state = 'succeeded') FROM pillars.jobs"),
    )
    assert one(sql, "SELECT count(*) FROM pillars.jobs WHERE rescues = 1") == 4
    eventually("what the killed one counted is kept", lambda: finished(sql) == 28)
    assert f"(pid {killed}) was ended by SIGKILL; starts again in" in crew.output("w")
    assert crew.stop("w") == [0]


def test_one_that_cannot_start_ends_them_all(dsn: Secret, tmp_path: Path) -> None:
    crew = Crew(dsn, tmp_path)
    crew.start("worker", "w", "--processes", "2", "--app", "no_such_module:app")

    assert crew.processes["w"].wait(120) == 1
    assert "there is no module 'no_such_module'" in crew.output("w")
