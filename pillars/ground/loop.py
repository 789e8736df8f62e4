"""The one loop: runs a step, waits as long as the step asked, survives the step's errors.

A step does one pass of work and returns the seconds until it wants to run again. Whoever wants it
sooner sets the wake event. `Stepper.run` alone owns `while`, error handling and stopping.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from pillars.ground.events import LoopFailed, LoopRecovered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pillars.ground.events import Emit

FIRST_RETRY = 0.05
LONGEST_RETRY = 1.0


class Stepper:
    """Runs one step function again and again until told to stop."""

    def __init__(
        self,
        name: str,
        step: Callable[[], Awaitable[float]],
        emit: Emit,
        longest_retry: float = LONGEST_RETRY,
    ) -> None:
        """Name the loop (for events) and give it its step.

        Args:
            name: how the loop is called in events.
            step: one pass of work; returns the seconds until the next one.
            emit: receives LoopFailed and LoopRecovered.
            longest_retry: upper bound, in seconds, of the pause after repeated failures.
        """
        self.name = name
        self._step = step
        self._emit = emit
        self._longest_retry = longest_retry
        self._wake = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Run the next step now instead of after its delay."""
        self._wake.set()

    def stop(self) -> None:
        """Let the loop end after the step under way."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Run steps until stopped; a failing step is retried with a jittered, growing pause."""
        failures = 0
        while not self._stopping:
            self._wake.clear()
            try:
                delay = await self._step()
            except Exception as error:  # noqa: BLE001 - the loop must outlive whatever a step raises
                failures += 1
                delay = self._pause(failures)
                self._emit(LoopFailed(self.name, describe(error), failures, delay))
            else:
                if failures:
                    self._emit(LoopRecovered(self.name, failures))
                failures = 0
            await self._wait(delay)

    def _pause(self, failures: int) -> float:
        ceiling = min(self._longest_retry, FIRST_RETRY * 2.0 ** min(failures, 20))
        return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret

    async def _wait(self, delay: float) -> None:
        if self._stopping:
            return
        if delay <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            pass


def describe(error: BaseException) -> str:
    """One line for a log: the error's first line, or its type where it has no text."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
