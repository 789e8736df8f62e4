"""Work done in processes of their own, for large sets of schedules.

A million schedules take minutes of computing and a gigabyte of memory to read, and a cron that
fires has neither to give; one that has nothing else to do reads them faster on several cores.

Such a process is asked on stdin and answers on stdout. It ends by itself when nobody reads its
answers any more.
"""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


class Elsewhere(Generic[T]):
    """A function that is called in a process of its own, once for each tuple of arguments.

    It is a function of a module, and all that it takes and returns can be pickled. As a context it
    ends the process; nothing of it outlives the block.
    """

    def __init__(self, function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> None:
        """Start it; `ask` says what is to be done."""
        self._question = function, calls
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pillars.cron.elsewhere"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A Ctrl-C in the terminal is its parent's to hear.
            start_new_session=True,
        )

    def __enter__(self) -> Elsewhere[T]:
        """Go on."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def ask(self) -> Elsewhere[T]:
        """Say what is to be done; waits until it is heard."""
        # One that ended at once is noticed by who waits for its answer.
        with suppress(BrokenPipeError), self._process.stdin as asking:  # type: ignore[union-attr]
            pickle.dump(self._question, asking)
        return self

    def answer(self) -> T:
        """Wait for what the next call returns.

        Raises:
            RuntimeError: the process ended without it.
        """
        try:
            answer: T = pickle.load(self._process.stdout)  # type: ignore[arg-type] # noqa: S301 - ours
        except (EOFError, pickle.UnpicklingError):
            ended = self._process.wait()
            raise RuntimeError(f"the process that reads schedules ended with {ended}") from None
        return answer


async def call_elsewhere(function: Callable[..., T], *arguments: object) -> T:
    """Call a function in a process of its own without blocking the event loop.

    Raises:
        RuntimeError: the process ended without an answer.
    """
    with Elsewhere(function, [arguments]) as elsewhere:
        return await asyncio.to_thread(lambda: elsewhere.ask().answer())


def _serve() -> None:
    function, calls = pickle.load(sys.stdin.buffer)  # noqa: S301 - our own program's
    with suppress(BrokenPipeError):
        for arguments in calls:
            pickle.dump(function(*arguments), sys.stdout.buffer)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
