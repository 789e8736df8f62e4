from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pillars.ground.events import LoopFailed, LoopRecovered
from pillars.ground.loop import FIRST_RETRY, Stepper, describe
from tests.helpers import PATIENCE, RecordingListener

if TYPE_CHECKING:
    from collections.abc import Callable

# Longer than any test may run: whoever waits it out never comes back.
FOR_EVER = 3600.0


class Steps:
    """A step that plays a list of delays and errors, then stops its loop."""

    def __init__(self, *script: float | Exception) -> None:
        self.taken = 0
        self.loop: Stepper | None = None
        self._script = list(script)
        self._took = asyncio.Event()

    async def __call__(self) -> float:
        self.taken += 1
        self._took.set()
        if not self._script:
            assert self.loop is not None
            self.loop.stop()
            return FOR_EVER
        turn = self._script.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return turn

    async def until(self, count: int) -> None:
        """Wait until this many steps have begun."""
        while self.taken < count:
            self._took.clear()
            await self._took.wait()


@pytest.fixture
def build(events: RecordingListener) -> Callable[[Steps], Stepper]:
    def stepper(steps: Steps) -> Stepper:
        steps.loop = Stepper("heart", steps, events, longest_retry=0.001)
        return steps.loop

    return stepper


async def finished(loop: Stepper) -> None:
    async with asyncio.timeout(PATIENCE):
        await loop.run()


async def test_steps_follow_one_another_until_the_loop_is_stopped(
    build: Callable[[Steps], Stepper],
    events: RecordingListener,
) -> None:
    steps = Steps(0.0, 0.0, 0.001)

    await finished(build(steps))

    assert steps.taken == 4
    assert events.events == []


async def test_a_failing_step_is_told_and_tried_again(
    build: Callable[[Steps], Stepper],
    events: RecordingListener,
) -> None:
    steps = Steps(0.0, ValueError("no\nluck"), ValueError(), 0.0)

    await finished(build(steps))

    assert steps.taken == 5
    assert [(e.loop, e.error, e.failures) for e in events.of(LoopFailed)] == [
        ("heart", "no", 1),
        ("heart", "ValueError", 2),
    ]
    assert events.of(LoopRecovered) == [LoopRecovered("heart", 2)]


async def test_each_series_of_failures_is_counted_anew(
    build: Callable[[Steps], Stepper],
    events: RecordingListener,
) -> None:
    await finished(build(Steps(OSError("a"), 0.0, OSError("b"), 0.0)))

    assert [event.failures for event in events.of(LoopFailed)] == [1, 1]
    assert len(events.of(LoopRecovered)) == 2


async def test_the_pause_after_failures_grows_up_to_its_bound(events: RecordingListener) -> None:
    loop = Stepper("heart", Steps(), events, longest_retry=1.0)

    pauses = [loop._pause(failures) for failures in (1, 2, 3, 10, 10_000)]

    for pause, ceiling in zip(pauses, (0.1, 0.2, 0.4, 1.0, 1.0), strict=True):
        assert ceiling / 2 <= pause <= ceiling
    assert pauses[0] >= FIRST_RETRY


async def test_the_pauses_of_many_loops_are_spread(events: RecordingListener) -> None:
    loop = Stepper("heart", Steps(), events)

    assert len({loop._pause(1) for _ in range(10)}) > 1


async def test_a_wake_ends_the_wait(build: Callable[[Steps], Stepper]) -> None:
    steps = Steps(FOR_EVER)
    loop = build(steps)
    running = asyncio.create_task(finished(loop))
    await steps.until(1)

    loop.wake()
    await running

    assert steps.taken == 2


async def test_a_wake_during_a_step_is_not_lost(events: RecordingListener) -> None:
    taken = 0

    async def step() -> float:
        nonlocal taken
        taken += 1
        if taken == 1:
            loop.wake()
        else:
            loop.stop()
        return FOR_EVER

    loop = Stepper("heart", step, events)

    await finished(loop)

    assert taken == 2


async def test_a_stop_while_waiting_ends_the_loop_at_once(
    build: Callable[[Steps], Stepper],
) -> None:
    steps = Steps(FOR_EVER)
    loop = build(steps)
    running = asyncio.create_task(finished(loop))
    await steps.until(1)

    loop.stop()
    await running

    assert steps.taken == 1


async def test_a_stop_before_the_start_means_no_step(build: Callable[[Steps], Stepper]) -> None:
    steps = Steps()
    loop = build(steps)
    loop.stop()

    await finished(loop)

    assert steps.taken == 0


async def test_a_stop_while_a_failed_step_pauses_ends_the_loop(
    events: RecordingListener,
) -> None:
    loop = Stepper("heart", Steps(OSError("down")), events, longest_retry=FOR_EVER)
    loop._pause = lambda _: FOR_EVER  # type: ignore[method-assign] # as after many failures
    running = asyncio.create_task(finished(loop))
    await events.until(LoopFailed)

    loop.stop()

    await running


async def test_a_cancelled_loop_ends_without_a_word(
    build: Callable[[Steps], Stepper],
    events: RecordingListener,
) -> None:
    steps = Steps(FOR_EVER)
    running = asyncio.create_task(finished(build(steps)))
    await steps.until(1)

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert events.events == []


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n one"), "one"),
        (ValueError(), "ValueError"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_an_error_is_described_in_one_line(error: Exception, line: str) -> None:
    assert describe(error) == line
