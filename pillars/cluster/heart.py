"""The heartbeat's own thread: user code that blocks the event loop must not look like death.

The membership runs on an event loop of its own in a thread of its own, with database connections of
its own. Its verbs are called from the main loop through this class; its values (slots, member_id)
are immutable and replaced whole, so they are read without a lock. Its events are handed to the main
loop, where all listeners live.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from pillars.ground.events import MemberJoined
from pillars.ground.loop import Stepper

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pillars.cluster.agent import Membership
    from pillars.db.database import Database
    from pillars.ground.events import Emit, Event

T = TypeVar("T")


class Heart:
    """Runs a membership in a thread and keeps it beating until stopped."""

    def __init__(self, database: Database, build: Callable[[Emit], Membership], emit: Emit) -> None:
        """Prepare; the thread starts with `start`.

        Args:
            database: of the thread's own, closed by it.
            build: makes the membership, given where its events go.
            emit: the main loop's listeners.
        """
        self._database = database
        self._main = asyncio.get_running_loop()
        self._emit = emit
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)
        self.membership = build(self._hand_over)
        self._stepper = Stepper("heartbeat", self.membership.step, self._hand_over)
        self._beating: asyncio.Task[None] | None = None
        self._leaving = Stepper("leave", self._leave, self._hand_over)
        self._joined = asyncio.Event()

    async def start(self) -> None:
        """Start the thread and beat; returns once this process is an active member."""
        self._thread.start()
        await self.call(self._begin())
        await self._joined.wait()

    async def call(self, verb: Coroutine[Any, Any, T]) -> T:
        """Run one of the membership's verbs on its own loop and return its result."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(verb, self._loop))

    def wake(self) -> None:
        """Beat now: the ring has changed."""
        self._loop.call_soon_threadsafe(self._stepper.wake)

    async def stop(self) -> None:
        """Leave the members and end the thread; to be called last of all.

        What cannot leave would be expelled, and its slots and jobs stay with it until then: a leave
        that fails is tried again, with jittered pauses, until the caller gives up.
        """
        await self.call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)

    async def _begin(self) -> None:
        self._beating = asyncio.create_task(self._stepper.run())

    async def _end(self) -> None:
        self._stepper.stop()
        try:
            if self._beating is not None:
                await self._beating
            await self._leaving.run()
        finally:
            await self._database.close()

    async def _leave(self) -> float:
        await self.membership.leave()
        self._leaving.stop()
        return 0.0

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _hand_over(self, event: Event) -> None:
        if not self._main.is_closed():
            self._main.call_soon_threadsafe(self._arrive, event)

    def _arrive(self, event: Event) -> None:
        if isinstance(event, MemberJoined):
            self._joined.set()
        self._emit(event)
