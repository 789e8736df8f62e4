"""Loops whose steps are let through one statement at a time, or cut."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from pillars.db.database import Link
    from pillars.db.statements import Statement
    from tests.helpers import FakeClock

    Step = Callable[[], Awaitable[Any]]
    Seen = Callable[[str, Mapping[str, Any], Sequence[tuple[Any, ...]]], None]

BEFORE, AFTER = "before", "after"
# More statements than any step has.
_WHOLE = 1_000


class CutError(psycopg.OperationalError):
    """The connection broke: before the database had the statement, or after it was committed."""


class Loop:
    """Runs steps; each statement waits until it is let through."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._task: asyncio.Task[Any] | None = None
        self._turn: asyncio.Future[str | None] | None = None
        self._news: asyncio.Queue[None] = asyncio.Queue()

    @property
    def held(self) -> bool:
        """Whether a step is under way."""
        return self._task is not None

    async def whole(self, cut: str | None = None) -> Any:
        """Run a step to its end, or end the one under way; None if it was cut."""
        return await self.some(_WHOLE, cut)

    async def some(self, statements: int, cut: str | None = None) -> Any:
        """Let so many statements pass, the first one perhaps cut; None unless the step ends."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(lambda _: self._news.put_nowait(None))
            await self._news.get()
        for _ in range(statements):
            if self._turn is None:
                break
            turn, self._turn = self._turn, None
            turn.set_result(cut)
            cut = None
            await self._news.get()
        if not self._task.done():
            return None
        task, self._task = self._task, None
        try:
            return task.result()
        except CutError:
            return None

    async def drop(self) -> None:
        """Forget the step under way, as the end of its process does."""
        task, self._task, self._turn = self._task, None, None
        if task is not None:
            task.cancel()
            await self._news.get()

    async def turn(self) -> str | None:
        """Wait until the next statement is let through; return where it is to be cut."""
        self._turn = asyncio.get_running_loop().create_future()
        self._news.put_nowait(None)
        return await self._turn

    async def _run(self) -> Any:
        _running.set(self)
        return await self._step()


class Line:
    """What loops take for their link: no statement passes that has not been let through.

    A transaction counts as one statement, so transactions come one after another. The time of a
    statement is that of its passing, however long it was held.
    """

    def __init__(
        self, link: Link, clock: FakeClock, seen: Seen, committed: Callable[[], Awaitable[None]]
    ) -> None:
        self._link = link
        self._clock = clock
        self._seen = seen
        self._committed = committed

    async def fetch(
        self, statement: Statement, params: Mapping[str, Any] | None = None
    ) -> Sequence[tuple[Any, ...]]:
        """Run one statement once it is let through."""
        cut = await _turn()
        given = dict(params or {})
        if "now" in given:
            given["now"] = self._clock.now
        rows = await self._link.fetch(statement, given)
        self._seen(statement.name, given, rows)
        if cut == AFTER:
            raise CutError
        return rows

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Open a transaction once it is let through."""
        cut = await _turn()
        async with self._link.transaction() as connection:
            yield connection
        await self._committed()
        if cut == AFTER:
            raise CutError


async def _turn() -> str | None:
    cut = await _running.get().turn()
    if cut == BEFORE:
        raise CutError
    return cut


_running: ContextVar[Loop] = ContextVar("the loop whose step this is")
