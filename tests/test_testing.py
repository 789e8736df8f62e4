"""`pillars.testing`, which users test their applications with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import psycopg
import pytest

from pillars import App, NewJob, PermanentError, RetryPolicy, Snooze, current_job
from pillars.testing import EndlessJobsError, JobFailedError, enqueued, migrated, run_due_jobs
from tests.conftest import database_url

if TYPE_CHECKING:
    from pillars.db.database import Database
    from pillars.ground.settings import Secret

ROOT = Path(__file__).parents[1]


@pytest.fixture
def app(database: Database) -> App:
    app = App()
    app.bind(database, lambda _: None)
    return app


async def test_what_waits_is_listed_in_the_order_it_was_put(app: App) -> None:
    await app.enqueue("a", {"n": 1})
    await app.enqueue("a", {"n": 2}, delay=3600)
    await app.enqueue("b", queue="other")

    assert [job.args for job in await enqueued(app, type="a")] == [{"n": 1}, {"n": 2}]
    assert [job.type for job in await enqueued(app.database, queue="other")] == ["b"]
    assert len(await enqueued(app)) == 3


async def test_long_args_are_listed_whole(app: App) -> None:
    args = {"text": "x" * 20_000}
    await app.enqueue("a", args)

    assert [job.args for job in await enqueued(app)] == [args]


async def test_all_that_waits_is_listed_however_much_it_is(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pillars.testing._PAGE", 2)
    await app.enqueue_many([NewJob("noop", {"n": n}) for n in range(5)])

    assert [job.args["n"] for job in await enqueued(app)] == [0, 1, 2, 3, 4]


async def test_due_jobs_run_in_the_test_with_those_they_enqueue(app: App) -> None:
    seen: list[str] = []

    @app.job("first", store_result=True)
    async def first() -> int:
        await app.enqueue("second", {"n": current_job().id})
        return 7

    @app.job("second")
    def second(n: int) -> None:
        seen.append(f"after {n}")

    await app.enqueue("first")
    await app.enqueue("later", delay=3600)

    jobs = await run_due_jobs(app)

    assert [(job.type, job.state, job.result) for job in jobs] == [
        ("first", "succeeded", 7),
        ("second", "succeeded", None),
    ]
    assert seen == [f"after {jobs[0].id}"]
    assert [job.type for job in await enqueued(app)] == ["later"]


async def test_what_a_handler_raises_is_raised_once_it_is_written(app: App) -> None:
    @app.job("fragile")
    async def fragile() -> NoReturn:
        raise ValueError("boom")

    await app.enqueue("fragile")

    with pytest.raises(ValueError, match="boom"):
        await run_due_jobs(app)
    (job,) = await enqueued(app)
    assert (job.state, job.attempt) == ("failed", 1)


@pytest.mark.parametrize("error", [ValueError("boom"), PermanentError("boom")])
async def test_a_plain_functions_error_is_raised_too(app: App, error: Exception) -> None:
    @app.job("fragile")
    def fragile() -> NoReturn:
        raise error

    await app.enqueue("fragile")

    with pytest.raises(type(error), match="boom"):
        await run_due_jobs(app)


async def test_errors_can_be_recorded_instead_and_retries_that_are_due_run(app: App) -> None:
    @app.job("fragile", retry=RetryPolicy(max_attempts=3, base=0.0))
    async def fragile() -> None:
        if current_job().attempt < 3:
            raise ValueError("boom")

    @app.job("hopeless", max_attempts=1)
    async def hopeless() -> NoReturn:
        raise ValueError("boom")

    await app.enqueue_many([NewJob("fragile"), NewJob("hopeless")])

    jobs = await run_due_jobs(app, raise_errors=False)

    assert [(job.state, job.attempt) for job in jobs] == [("succeeded", 3), ("dead", 1)]
    assert (jobs[1].error or "").startswith("ValueError: boom")


async def test_a_test_may_run_what_is_due_later(app: App) -> None:
    attempts: list[int] = []

    @app.job("patient")
    async def patient() -> None:
        attempts.append(current_job().attempt)
        if len(attempts) == 1:
            raise Snooze(3600)

    await app.enqueue("patient", delay=3600)
    now = datetime.now(UTC)

    assert await run_due_jobs(app) == []
    (snoozed,) = await run_due_jobs(app, now=now + timedelta(hours=1, minutes=1))
    (done,) = await run_due_jobs(app, now=now + timedelta(hours=3))

    assert (snoozed.state, done.state, attempts) == ("available", "succeeded", [1, 1])


async def test_a_failure_without_an_exception_is_told(app: App) -> None:
    await app.enqueue("unknown.type")

    with pytest.raises(JobFailedError, match=r"job type 'unknown\.type' is unknown"):
        await run_due_jobs(app)


async def test_a_type_nobody_knows_ends_the_run_where_errors_are_recorded(app: App) -> None:
    await app.enqueue("unknown.type")

    (job,) = await run_due_jobs(app, raise_errors=False)

    assert (job.state, job.attempt) == ("available", 0)
    assert (job.error or "").startswith("job type 'unknown.type' is unknown")


async def test_a_job_that_enqueues_itself_does_not_go_on_for_ever(app: App) -> None:
    @app.job("endless")
    async def endless() -> None:
        await app.enqueue("endless")

    await app.enqueue("endless")

    with pytest.raises(EndlessJobsError):
        await run_due_jobs(app, limit=5)


async def test_as_many_attempts_as_the_limit_says_are_made(app: App) -> None:
    await app.enqueue_many([NewJob("noop"), NewJob("noop"), NewJob("noop")])

    with pytest.raises(EndlessJobsError):
        await run_due_jobs(app, limit=2)
    (left,) = await enqueued(app)
    assert (left.state, left.attempt) == ("available", 0)
    assert len(await run_due_jobs(app, limit=1)) == 1


async def test_jobs_of_other_queues_are_left_alone(app: App) -> None:
    await app.enqueue_many([NewJob("noop", queue="mail"), NewJob("noop", queue="slow")])

    (job,) = await run_due_jobs(app, queues=["mail"])

    assert job.queue == "mail"


async def test_nobody_stays_a_member(app: App, sql: psycopg.Connection[Any]) -> None:
    await app.enqueue("noop")
    await run_due_jobs(app)

    assert sql.execute("SELECT count(*) FROM pillars.members").fetchone() == (0,)


async def test_a_new_database_is_migrated(postgres: Secret) -> None:
    with psycopg.connect(postgres.reveal(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE users_test")
        dsn = database_url(postgres, "users_test").reveal()
        await migrated(dsn)
        await migrated(dsn)
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT count(*) FROM pillars.jobs").fetchone() == (0,)
        admin.execute("DROP DATABASE users_test WITH (FORCE)")


def test_the_example_in_the_readme_works(dsn: Secret, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", readme, re.DOTALL)
    for name, code in blocks:
        (tmp_path / name).write_text(code)
    assert {"jobs.py", "conftest.py", "test_jobs.py"} <= {name for name, _ in blocks}

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", "test_jobs.py"],
        cwd=tmp_path,
        env={
            **os.environ,
            "TEST_DATABASE_URL": dsn.reveal(),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path))),
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed" in run.stdout


async def test_all_that_is_due_runs_however_slow_the_database_is(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pillars.queue.lanes._QUICK", -1.0)

    @app.job("first")
    async def first() -> None:
        await app.enqueue("noop", queue="elsewhere")

    await app.enqueue_many([NewJob("noop"), NewJob("noop"), NewJob("first")])

    assert len(await run_due_jobs(app)) == 4
