"""A server that neither answers nor hangs up holds a transaction no longer than a statement."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import pillars.db.connection
from pillars.db.connection import fetch
from pillars.db.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import psycopg

    from pillars.db.database import Database, Link

    Freeze = Callable[[int], AbstractContextManager[None]]

BACKEND = Statement("backend", "SELECT pg_backend_pid()", "Which process serves us.", None)


@pytest.fixture(params=["a link", "the pool"])
def opener(database: Database, request: pytest.FixtureRequest) -> Database | Link:
    return database.link("test") if request.param == "a link" else database


@pytest.fixture
def freeze(monkeypatch: pytest.MonkeyPatch) -> Freeze:
    """Stops a server process, whose kernel still takes what is sent, and takes our patience."""

    @contextmanager
    def stopped(pid: int) -> Iterator[None]:
        look = ["ps", "-o", "command=", "-p", str(pid)]
        if b"postgres" not in subprocess.run(look, check=False, capture_output=True).stdout:
            pytest.skip("the server runs on another machine")
        monkeypatch.setattr(pillars.db.connection, "PATIENCE", 0.01)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
            monkeypatch.undo()

    return stopped


async def backend(opener: Database | Link) -> int:
    ((pid,),) = await opener.fetch(BACKEND)
    return int(pid)


async def test_a_begin_that_is_not_answered_costs_its_connection(
    opener: Database | Link,
    freeze: Freeze,
) -> None:
    old = await backend(opener)

    with freeze(old), pytest.raises(TimeoutError):
        async with opener.transaction():
            pass

    assert await backend(opener) != old


@pytest.mark.parametrize("second_thoughts", [False, True])
async def test_an_end_that_is_not_answered_costs_its_connection(
    opener: Database | Link,
    freeze: Freeze,
    *,
    second_thoughts: bool,
) -> None:
    old = await backend(opener)

    async def end_while_frozen() -> None:
        async with opener.transaction() as connection:
            assert await fetch(connection, BACKEND) == [(old,)]
            frozen.enter_context(freeze(old))
            if second_thoughts:
                raise ValueError

    with ExitStack() as frozen, pytest.raises(TimeoutError):
        await end_while_frozen()

    assert await backend(opener) != old


async def test_what_lies_between_begin_and_commit_may_last_longer(
    opener: Database | Link,
    sql: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    time = loop.time

    async with opener.transaction() as connection:
        # An hour passes, for all that waits in this loop.
        monkeypatch.setattr(loop, "time", lambda: time() + 3600.0)
        await connection.execute("CREATE TABLE made AS SELECT")

    assert sql.execute("SELECT count(*) FROM made").fetchall() == [(1,)]
