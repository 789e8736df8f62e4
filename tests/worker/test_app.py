from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pillars import App, NewJob, RetryPolicy
from pillars.app import AppNotBoundError
from pillars.db import notify
from pillars.ground.events import JobsEnqueued
from pillars.loading import AppLoadError, load_app
from pillars.queue.jobs import JobError
from pillars.worker.registry import RegistrationError

if TYPE_CHECKING:
    from pathlib import Path

    from pillars.db.database import Database
    from pillars.ground.settings import Secret
    from tests.helpers import RecordingListener


def test_a_registered_function_stays_as_it_was() -> None:
    app = App()

    def add(a: int, b: int) -> int:
        return a + b

    assert app.job("add")(add) is add


def test_every_app_knows_the_built_in_types() -> None:
    assert App().registry.names() == ("http", "log", "noop")


def test_max_attempts_goes_before_the_policys() -> None:
    app = App()

    @app.job("t", max_attempts=7, retry=RetryPolicy(max_attempts=2, base=1.0))
    async def handler() -> None: ...

    found = app.registry.get("t")
    assert found is not None
    assert found.policy == RetryPolicy(max_attempts=7, base=1.0)


def test_a_type_has_one_handler() -> None:
    app = App()
    with pytest.raises(RegistrationError, match=r"'noop' is registered already, by pillars"):
        app.job("noop")(print)


def test_a_generator_is_refused_since_its_body_would_never_run() -> None:
    def handler() -> Any:
        yield

    with pytest.raises(RegistrationError, match="is a generator"):
        App().job("t")(handler)


@pytest.mark.parametrize(
    "given",
    [{"queue": "no blanks"}, {"timeout": 0}, {"max_attempts": 0}, {"queue": ""}],
)
def test_a_registration_is_checked_at_once(given: dict[str, Any]) -> None:
    with pytest.raises(JobError):
        App().job("t", **given)(print)


async def test_a_job_goes_to_its_types_queue_unless_told_otherwise(
    app: App,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
) -> None:
    app.job("mail", queue="post")(print)

    await app.enqueue("mail")
    await app.enqueue("mail", queue="other")
    await app.enqueue("of.another.process")

    rows = sql.execute("SELECT queue FROM pillars.jobs ORDER BY id").fetchall()
    assert [row[0] for row in rows] == ["post", "other", "default"]
    assert [event.queue for event in events.of(JobsEnqueued)] == ["post", "other", "default"]


async def test_each_of_many_jobs_goes_to_its_types_queue_unless_told_otherwise(
    app: App,
    sql: psycopg.Connection[Any],
) -> None:
    app.job("mail", queue="post")(print)

    await app.enqueue_many([NewJob("mail"), NewJob("mail", queue="other"), NewJob("elsewhere")])

    rows = sql.execute("SELECT queue FROM pillars.jobs ORDER BY id").fetchall()
    assert [row[0] for row in rows] == ["post", "other", "default"]


async def test_all_that_can_be_said_of_a_job_arrives(
    app: App,
    sql: psycopg.Connection[Any],
) -> None:
    await app.enqueue(
        "noop",
        retry=RetryPolicy(max_attempts=2, base=1.0),
        unique_key="u",
        unique_for=3600,
        concurrency_key="c",
        concurrency_limit=3,
        expires_in=60,
    )

    rows = sql.execute(
        "SELECT max_attempts, retry->'base', unique_key, unique_until - created_at = '1 hour',"
        " concurrency_key, concurrency_limit, expires_at - run_at = '1 minute' FROM pillars.jobs"
    ).fetchall()
    assert rows == [(2, 1.0, "u", True, "c", 3, True)]


async def test_a_unique_key_that_is_taken_leads_to_the_job_that_holds_it(
    app: App,
    sql: psycopg.Connection[Any],
) -> None:
    first = await app.enqueue("noop", unique_key="u")

    assert await app.enqueue("noop", unique_key="u") == first
    assert sql.execute("SELECT count(*) FROM pillars.jobs").fetchall() == [(1,)]


async def test_a_job_exists_if_and_when_the_callers_transaction_commits(
    app: App,
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
) -> None:
    async with database.transaction() as connection:
        await app.enqueue("noop", {"n": 1}, connection=connection)
    async with database.transaction() as connection:
        await app.enqueue("noop", {"n": 2}, connection=connection)
        await app.enqueue_many([NewJob("noop", {"n": 3})], connection)
        raise psycopg.Rollback

    assert sql.execute("SELECT args FROM pillars.jobs").fetchall() == [({"n": 1},)]
    assert events.of(JobsEnqueued) == []


async def test_of_jobs_enqueued_one_after_another_the_first_wakes_and_one_notification_follows(
    app: App,
    database: Database,
    sql: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notify, "_PAUSE", 3600.0)
    sql.execute("LISTEN pillars_jobs")

    for _ in range(5):
        await app.enqueue("noop")
    assert len(list(sql.notifies(timeout=30, stop_after=1))) == 1
    sql.execute("SELECT")
    assert list(sql.notifies(timeout=0)) == []

    await database.close()
    assert len(list(sql.notifies(timeout=30, stop_after=1))) == 1


async def test_a_job_for_later_wakes_nobody(
    app: App,
    database: Database,
    sql: psycopg.Connection[Any],
) -> None:
    sql.execute("LISTEN pillars_jobs")

    await app.enqueue("noop", delay=60)
    await app.enqueue("noop", delay=60)
    await app.enqueue_many([NewJob("noop", delay=60), NewJob("noop", delay=60, unique_key="u")])
    await database.close()

    sql.execute("SELECT")
    assert list(sql.notifies(timeout=0)) == []


async def test_a_delay_counts_by_the_databases_clock(
    app: App,
    sql: psycopg.Connection[Any],
) -> None:
    await app.enqueue("noop", delay=60)

    (waits,) = sql.execute("SELECT run_at - created_at = '1 minute' FROM pillars.jobs").fetchall()
    assert waits == (True,)


async def test_an_app_without_a_database_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PILLARS_DATABASE_URL", raising=False)

    with pytest.raises(AppNotBoundError, match="set PILLARS_DATABASE_URL, or pass `connection=`"):
        await App().enqueue("noop")


async def test_a_script_needs_the_environment_variable_only(
    dsn: Secret,
    sql: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PILLARS_DATABASE_URL", dsn.reveal())
    app = App()

    job_id = await app.enqueue("noop")
    await app.close()

    assert sql.execute("SELECT id FROM pillars.jobs").fetchall() == [(job_id,)]


async def test_closing_an_app_leaves_the_database_it_was_bound_to(
    app: App,
    database: Database,
) -> None:
    await app.enqueue("noop")
    await app.close()

    assert app.database is database


async def test_an_app_that_was_bound_after_it_opened_a_database_stays_bound(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILLARS_DATABASE_URL", database.dsn.reveal())
    app = App()
    await app.enqueue("noop")
    app.bind(database, lambda _: None)

    await app.close()

    assert app.database is database


def test_importing_pillars_loads_neither_web_framework_nor_driver() -> None:
    look = "import sys, pillars; print([m for m in ('aiohttp', 'psycopg') if m in sys.modules])"
    app = "import sys, pillars; pillars.App(); print('aiohttp' in sys.modules)"

    assert _python(look) == "[]"
    assert _python(app) == "False"


def test_an_app_is_loaded_from_the_working_directory(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _module(tmp_path, monkeypatch, "shop_one", "import pillars\nclass jobs:\n  app = pillars.App()")

    assert isinstance(load_app("shop_one:jobs.app"), App)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("shop_two", "'shop_two' is not an app: write module:attribute, as in main:app"),
        ("shop_tow:app", "there is no module 'shop_tow' in "),
        ("shop_two:ap", "shop_two has no 'ap', did you mean 'app'?"),
        ("shop_two:thing", "shop_two:thing is of type int, not a pillars.App"),
    ],
)
def test_a_path_that_leads_to_no_app_is_explained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    expected: str,
) -> None:
    _module(tmp_path, monkeypatch, "shop_two", "import pillars\napp = pillars.App()\nthing = 1")

    with pytest.raises(AppLoadError) as caught:
        load_app(path)

    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import no_such_thing", "No module named 'no_such_thing'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError: invalid syntax"),
    ],
)
def test_a_module_that_breaks_is_told_from_one_that_is_missing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    expected: str,
) -> None:
    _module(tmp_path, monkeypatch, "shop_broken", text)

    with pytest.raises(AppLoadError) as caught:
        load_app("shop_broken:app")

    assert str(caught.value).startswith(f"shop_broken cannot be imported: {expected}")


def _module(directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    (directory / f"{name}.py").write_text(text)
    monkeypatch.chdir(directory)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.delitem(sys.modules, name, raising=False)


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


# ---- schedules in code


def test_a_schedule_stands_above_or_below_the_job_it_belongs_to() -> None:
    app = App()

    @app.schedule("above", cron="0 6 * * *", timezone="Europe/Berlin")
    @app.job("digest", queue="mail")
    async def above() -> None: ...

    @app.job("report")
    @app.schedule("below", every="15m", args={"rounds": 3})
    def below(rounds: int) -> None: ...

    found = app.schedules()

    assert [(s.name, s.job, s.queue, dict(s.args)) for s in found.schedules] == [
        ("above", "digest", "mail", {}),
        ("below", "report", "default", {"rounds": 3}),
    ]
    assert found.origins["above"] == f"{__name__}:{above.__qualname__}"
    assert asyncio.iscoroutinefunction(above)


def test_a_schedule_by_a_plain_call_goes_to_its_types_queue() -> None:
    app = App()
    app.job("mail", queue="post")(print)

    app.schedule("known", job="mail", every="1h")
    app.schedule("of.another.process", job="elsewhere", every="1h")

    found = app.schedules()
    assert [(s.job, s.queue) for s in found.schedules] == [
        ("mail", "post"),
        ("elsewhere", "default"),
    ]
    assert found.origins["known"].startswith(f"{__name__}:")


def test_an_app_without_schedules_has_a_set_without_any() -> None:
    assert App().schedules().schedules == ()
    assert App().schedules().code == frozenset()


MODULE = """
from pillars import App
app = App()

@app.job("t")
def handler(): ...

"""


@pytest.mark.parametrize(
    ("last", "sentence"),
    [
        (
            'app.schedule("a", job="t", crom="0 6 * * *", timezone="Berlin")',
            "NAME cannot be imported: NAME:8: schedule 'a': crom: unknown key 'crom', did you mean",
        ),
        (
            'app.schedule("a", every="1h")',
            "NAME:8: schedule 'a' has no job: give `job=`, or decorate a handler with it",
        ),
        (
            '@app.schedule("a", every="1h")\ndef other(): ...',
            "NAME:other: schedule 'a': the function handles no job type: put it next to `@app.job`",
        ),
    ],
)
def test_a_faulty_schedule_stops_the_import_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, sentence: str
) -> None:
    name = f"scheduled_{abs(hash(last))}"
    (tmp_path / f"{name}.py").write_text(MODULE + last)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(AppLoadError) as error:
        load_app(f"{name}:app")

    assert str(error.value).startswith(sentence.replace("NAME", name))


def test_an_app_without_schedules_loads_no_parser_of_cron(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(MODULE)
    code = (
        "from pillars.loading import *; load_app('plain:app'); sys.exit('croniter' in sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
