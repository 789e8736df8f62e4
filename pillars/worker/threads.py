"""Threads for plain functions.

Not `concurrent.futures`: the interpreter joins its threads at exit, so one handler that hangs would
keep a worker from ever ending. These are daemons and end with the process.
"""

from __future__ import annotations

import asyncio
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")


class Threads(Generic[R]):
    """Up to `size` threads, started when first needed."""

    def __init__(self, size: int, name: str) -> None:
        """Start none yet; `name` is how the threads are called in a debugger."""
        self._size = size
        self._name = name
        self._calls: SimpleQueue[tuple[asyncio.Future[R], Callable[[], R]] | None] = SimpleQueue()
        self._started = 0
        self._idle = 0

    def submit(self, call: Callable[[], R]) -> asyncio.Future[R]:
        """Run `call`, which must not raise, in a thread; the future is the running loop's."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        future.add_done_callback(self._is_idle_again)
        if self._idle:
            self._idle -= 1
        elif self._started < self._size:
            self._started += 1
            name = f"{self._name}-{self._started}"
            threading.Thread(target=self._run, name=name, daemon=True).start()
        self._calls.put((future, call))
        return future

    def close(self) -> None:
        """Let each thread end after the call it is busy with."""
        for _ in range(self._started):
            self._calls.put(None)

    def _is_idle_again(self, _: asyncio.Future[R]) -> None:
        self._idle += 1

    def _run(self) -> None:
        while (taken := self._calls.get()) is not None:
            future, call = taken
            result = call()
            try:
                future.get_loop().call_soon_threadsafe(_settle, future, result)
            except RuntimeError:
                return  # the loop was closed in the meantime: nobody waits any more
            # What the call referred to must not live on until the next one.
            del taken, future, call, result


def _settle(future: asyncio.Future[R], result: R) -> None:
    if not future.done():
        future.set_result(result)
