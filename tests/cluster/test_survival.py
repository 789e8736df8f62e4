"""The crown: real processes on one real PostgreSQL, killed and stopped while they work."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pillars.cluster.members import PATIENCE
from tests.cluster.crew import Crew, eventually, one

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pillars.ground.settings import Secret

SCHEDULES = 40
pytestmark = pytest.mark.cluster


@pytest.fixture
def crew(dsn: Secret, tmp_path: Path) -> Iterator[Crew]:
    (tmp_path / "schedules").mkdir()
    crew = Crew(dsn, tmp_path)
    yield crew
    crew.end()


def write(tmp_path: Path, count: int, name: str = "every-second") -> None:
    lines = [
        f"  - {{name: {name}-{number}, every: 1s, job: crew.step, catchup: all}}"
        for number in range(count)
    ]
    (tmp_path / "schedules" / f"{name}.yaml").write_text("\n".join(["schedules:", *lines]))


def start(crew: Crew, crons: int, workers: int, lease: str = "2") -> None:
    for number in range(crons):
        crew.start("cron", f"cron-{number}", PILLARS_LEASE=lease, PILLARS_LOOKAHEAD="1")
    for number in range(workers):
        crew.start("worker", f"worker-{number}", "--app", "crew_app:app", PILLARS_LEASE=lease)


def active(sql: psycopg.Connection[Any], role: str) -> int:
    return int(
        one(sql, "SELECT count(*) FROM pillars.members WHERE role = %s AND state = 'active'", role)
    )


def fired(sql: psycopg.Connection[Any]) -> int:
    return int(one(sql, "SELECT count(*) FROM pillars.jobs"))


def owners(sql: psycopg.Connection[Any]) -> list[int]:
    """The shares of the ring, largest first; a slot without a living cron fails the test."""
    rows = sql.execute(
        "SELECT count(*) FROM pillars.ring, unnest(map) AS owner "
        "JOIN pillars.members ON members.id = owner AND members.state = 'active' "
        "GROUP BY owner ORDER BY 1 DESC",
    ).fetchall()
    return [count for (count,) in rows]


def assert_each_tick_exactly_once(sql: psycopg.Connection[Any]) -> None:
    doubles = sql.execute(
        "SELECT schedule, fire_at, count(*) FROM pillars.jobs GROUP BY 1, 2 HAVING count(*) > 1",
    ).fetchall()
    gaps = sql.execute(
        "SELECT schedule, tick FROM (SELECT schedule, min(fire_at) AS first, max(fire_at) AS last "
        "  FROM pillars.jobs GROUP BY schedule) AS range, "
        "  generate_series(first, last, interval '1 second') AS tick "
        "WHERE NOT EXISTS (SELECT FROM pillars.jobs "
        "  WHERE schedule = range.schedule AND fire_at = tick)",
    ).fetchall()
    assert doubles == []
    assert gaps == []


def assert_every_due_job_ended_well(sql: psycopg.Connection[Any]) -> None:
    eventually(
        "every due job succeeded",
        lambda: (
            not one(
                sql,
                "SELECT count(*) FROM pillars.jobs WHERE state <> 'succeeded' AND run_at < now()",
            )
        ),
    )
    unrun = sql.execute(
        "SELECT id FROM pillars.jobs WHERE state = 'succeeded' "
        "AND NOT EXISTS (SELECT FROM crew WHERE job_id = jobs.id)",
    ).fetchall()
    assert unrun == []


def test_nothing_is_lost_or_doubled_when_processes_are_killed_and_stopped(
    crew: Crew,
    sql: psycopg.Connection[Any],
    tmp_path: Path,
) -> None:
    sql.execute("CREATE TABLE crew (job_id bigint, attempt int)")
    write(tmp_path, SCHEDULES)
    start(crew, crons=3, workers=2)
    eventually("three crons share the ring", lambda: owners(sql) == [1366, 1365, 1365])
    eventually("jobs are done", lambda: one(sql, "SELECT count(*) FROM crew") > SCHEDULES)

    crew.signal("cron-0", signal.SIGKILL)
    crew.signal("worker-0", signal.SIGKILL)
    eventually("the dead cron is expelled", lambda: owners(sql) == [2048, 2048])
    eventually("the dead worker is expelled", lambda: active(sql, "worker") == 1)
    crew.start("worker", "worker-2", "--app", "crew_app:app", PILLARS_LEASE="2")
    eventually("another worker has joined", lambda: active(sql, "worker") == 2)

    crew.signal("cron-1", signal.SIGSTOP)
    crew.signal("worker-1", signal.SIGSTOP)
    eventually("the stopped cron is expelled", lambda: owners(sql) == [4096])
    eventually("the stopped worker is expelled", lambda: active(sql, "worker") == 1)
    crew.signal("cron-1", signal.SIGCONT)
    crew.signal("worker-1", signal.SIGCONT)
    eventually("the continued cron joins anew", lambda: owners(sql) == [2048, 2048])
    eventually("the continued worker joins anew", lambda: active(sql, "worker") == 2)

    before = fired(sql)
    eventually("ticks go on", lambda: fired(sql) > before + 3 * SCHEDULES)
    assert crew.stop("cron-1", "cron-2") == [0, 0]
    assert_every_due_job_ended_well(sql)
    assert_each_tick_exactly_once(sql)
    assert crew.stop("worker-1", "worker-2") == [0, 0]
    assert active(sql, "cron") == active(sql, "worker") == 0


def test_what_was_missed_while_everything_was_down_is_caught_up(
    crew: Crew,
    sql: psycopg.Connection[Any],
    tmp_path: Path,
) -> None:
    sql.execute("CREATE TABLE crew (job_id bigint, attempt int)")
    write(tmp_path, 5)
    start(crew, crons=2, workers=1)
    eventually("jobs are done", lambda: one(sql, "SELECT count(*) FROM crew") > 5)
    for name in ("cron-0", "cron-1", "worker-0"):
        crew.signal(name, signal.SIGKILL)
    stopped = one(sql, "SELECT max(fire_at) FROM pillars.jobs")
    eventually(
        "several ticks are overdue",
        lambda: one(sql, "SELECT now() > %s::timestamptz + interval '4 seconds'", stopped),
    )

    start(crew, crons=1, workers=1)
    eventually(
        "ticks go on",
        lambda: one(sql, "SELECT max(fire_at) > now() FROM pillars.jobs"),
    )

    assert crew.stop("cron-0") == [0]
    assert_every_due_job_ended_well(sql)
    assert_each_tick_exactly_once(sql)


def test_a_file_that_is_added_fires_and_one_that_is_wrong_changes_nothing(
    crew: Crew,
    sql: psycopg.Connection[Any],
    tmp_path: Path,
) -> None:
    write(tmp_path, 1, "first")
    start(crew, crons=2, workers=0)
    eventually("the first file fires", lambda: fired(sql) > 0)

    wrong = tmp_path / "schedules" / "wrong.yaml"
    wrong.write_text("schedules:\n  - {name: x, crom: '* * * * *', job: noop}\n")
    eventually("the fault is told", lambda: "did you mean 'cron'" in crew.output("cron-0"))
    wrong.unlink()
    write(tmp_path, 1, "second")
    eventually(
        "the second file fires",
        lambda: one(sql, "SELECT count(*) FROM pillars.jobs WHERE schedule = 'second-0'") > 0,
    )

    (tmp_path / "schedules" / "second.yaml").unlink()
    eventually(
        "its schedule is gone",
        lambda: one(sql, "SELECT count(*) FROM pillars.schedules") == 1,
    )


def test_a_database_that_goes_away_and_comes_back_is_survived(
    crew: Crew,
    sql: psycopg.Connection[Any],
    tmp_path: Path,
) -> None:
    sql.execute("CREATE TABLE crew (job_id bigint, attempt int)")
    write(tmp_path, 5)
    # Nobody is to be missed, not even where the machine stands still for a moment.
    start(crew, crons=2, workers=1, lease="30")
    eventually("jobs are done", lambda: one(sql, "SELECT count(*) FROM crew") > 5)
    members = one(sql, "SELECT array_agg(id ORDER BY id) FROM pillars.members")

    for _ in range(3):
        before = fired(sql)
        sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        eventually("ticks go on", lambda before=before: fired(sql) > before + 5)

    assert members == one(sql, "SELECT array_agg(id ORDER BY id) FROM pillars.members")
    assert crew.stop("cron-0", "cron-1") == [0, 0]
    assert_every_due_job_ended_well(sql)
    assert_each_tick_exactly_once(sql)


def test_a_server_without_requests_stays_a_member_for_longer_than_anyones_patience(
    crew: Crew,
    sql: psycopg.Connection[Any],
    tmp_path: Path,
) -> None:
    write(tmp_path, 1)
    crew.start("server", "server-0", "--port", "0", PILLARS_LEASE="1")
    crew.start("cron", "cron-0", PILLARS_LEASE="1")
    eventually("both have joined", lambda: active(sql, "server") == active(sql, "cron") == 1)

    eventually(
        "patience is over",
        lambda: one(
            sql,
            "SELECT now() - min(started_at) > make_interval(secs => %s) FROM pillars.members",
            PATIENCE + 2,
        ),
    )

    # A machine that stands still for a second makes it silent; it never makes no progress.
    eventually("it is a member", lambda: active(sql, "server") == 1)
    assert "no progress" not in crew.output("cron-0")


def test_a_worker_that_is_to_stop_starts_nothing_more_while_it_cannot_announce_that(
    crew: Crew,
    sql: psycopg.Connection[Any],
    dsn: Secret,
) -> None:
    crew.start("worker", "w", "--app", "crew_app:app")
    eventually("it has joined", lambda: active(sql, "worker") == 1)

    with sql.transaction():
        sql.execute("SELECT FROM pillars.ring FOR UPDATE")
        crew.signal("w", signal.SIGTERM)
        eventually("it is stopping", lambda: "stopping (SIGTERM)" in crew.output("w"))
        with psycopg.connect(dsn.reveal(), autocommit=True) as other:
            other.execute("SELECT pillars.enqueue('noop')")
        eventually("it has tried to announce it", lambda: "leaving failed" in crew.output("w"))

    assert crew.processes["w"].wait() == 0
    assert one(sql, "SELECT attempt FROM pillars.jobs") == 0
    assert one(sql, "SELECT count(*) FROM pillars.members") == 0
