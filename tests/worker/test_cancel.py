"""Jobs that run are stopped when somebody asks for it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, NoReturn

import pytest

from pillars import NewJob, RetryPolicy, current_job
from pillars.ground.events import JobFinished, JobStopping, SlotsUsed, StatementRun
from pillars.queue.desk import cancel_job
from pillars.queue.states import JobId, JobState
from pillars.queue.upkeep import rescue
from tests.cron.ticking import NOON, at, own, schedule, write
from tests.helpers import FakeClock

if TYPE_CHECKING:
    from tests.worker.conftest import Bench

AT_ONCE = RetryPolicy(max_attempts=3, base=0.0)


async def busy(bench: Bench, slots: int = 1) -> None:
    await bench.events.until(SlotsUsed, where=lambda event: event.busy == slots)


def is_look(event: StatementRun) -> bool:
    return event.name == "cancel_requests"


def looks(bench: Bench) -> list[StatementRun]:
    return [event for event in bench.events.of(StatementRun) if is_look(event)]


async def test_an_async_handler_is_cancelled_where_it_awaits_and_no_other(bench: Bench) -> None:
    release, seen = asyncio.Event(), list[str]()

    @bench.app.job("wait", retry=AT_ONCE)
    async def wait(name: str) -> None:
        try:
            await release.wait()
        except asyncio.CancelledError:
            seen.append(name)
            raise

    (one, _) = await bench.app.enqueue_many([NewJob("wait", {"name": n}) for n in ("a", "b")])
    async with bench.working(concurrency=2):
        await busy(bench, 2)
        assert await cancel_job(bench.database, one, "not wanted") is JobState.RUNNING
        (end,) = await bench.events.until(JobFinished)
        release.set()

    assert seen == ["a"]
    assert (end.outcome, end.error) == ("cancelled", "not wanted")
    assert bench.events.of(JobStopping) == [JobStopping(one, "wait", "not wanted")]
    assert bench.jobs("state, error") == [("cancelled", "not wanted"), ("succeeded", None)]


async def test_a_notification_saves_the_wait_for_the_next_look(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pillars.worker.canceller.LOOK_EVERY", 1e6)
    bench.app.job("wait")(asyncio.Event().wait)
    job_id = await bench.app.enqueue("wait")

    async with bench.working() as worker:
        await busy(bench)
        await cancel_job(bench.database, job_id, "x")
        worker.notified("cancel")
        await bench.events.until(JobFinished)

    assert bench.jobs() == ["cancelled"]


async def test_a_plain_function_is_told_and_its_slot_waits_for_it(bench: Bench) -> None:
    release = threading.Event()
    told = threading.Event()

    @bench.app.job("stubborn")
    def stubborn() -> None:
        if current_job().cancelled.wait(30):
            told.set()
        release.wait(30)

    await bench.app.enqueue_many([NewJob("stubborn"), NewJob("noop")])
    async with bench.working(concurrency=1) as worker:
        await busy(bench)
        await cancel_job(bench.database, JobId(1), "not wanted")
        (end,) = await bench.events.until(JobFinished)
        passes = bench.passes
        worker.wake()
        await bench.events.until(SlotsUsed, count=passes + 1)
        assert bench.jobs() == ["cancelled", "available"]
        release.set()
        await bench.events.until(JobFinished, count=2)

    assert told.is_set()
    assert end.error == "not wanted"
    assert bench.jobs() == ["cancelled", "succeeded"]


@pytest.mark.parametrize("last_word", ["returns", "raises"])
async def test_a_plain_function_that_heeds_its_cancellation_has_the_last_word(
    bench: Bench,
    last_word: str,
) -> None:
    @bench.app.job("heedful")
    def heedful() -> None:
        current_job().cancelled.wait(30)
        if last_word == "raises":
            raise RuntimeError("stopped half-way")

    job_id = await bench.app.enqueue("heedful")
    async with bench.working():
        await busy(bench)
        await cancel_job(bench.database, job_id, "not wanted")
        (end,) = await bench.events.until(JobFinished)

    expected = {"returns": ("succeeded", None), "raises": ("cancelled", "not wanted")}
    assert (end.outcome, end.error) == expected[last_word]


async def test_a_handler_that_swallows_its_cancellation_ends_as_it_ended(bench: Bench) -> None:
    @bench.app.job("deaf")
    async def deaf() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    await bench.app.enqueue_many([NewJob("deaf"), NewJob("noop")])
    async with bench.working(concurrency=1):
        await busy(bench)
        await cancel_job(bench.database, JobId(1), "not wanted")
        await bench.events.until(JobFinished, count=2)

    assert bench.jobs("state, error") == [("succeeded", None)] * 2


async def test_whatever_a_handler_raises_on_its_way_out_it_is_not_tried_again(bench: Bench) -> None:
    @bench.app.job("loud", retry=AT_ONCE)
    async def loud() -> NoReturn:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("the clean-up failed")

    job_id = await bench.app.enqueue("loud")
    async with bench.working():
        await busy(bench)
        await cancel_job(bench.database, job_id, "not wanted")
        (end,) = await bench.events.until(JobFinished)

    assert (end.outcome, end.error) == ("cancelled", "not wanted")


async def test_a_job_in_the_buffer_is_not_started_once_it_is_cancelled(bench: Bench) -> None:
    release, ran = asyncio.Event(), list[int]()
    bench.app.job("slow")(release.wait)

    @bench.app.job("note")
    async def note() -> None:
        ran.append(current_job().id)

    worker = bench.worker(concurrency=1)
    await bench.app.enqueue_many([NewJob("slow"), NewJob("note"), NewJob("note")])
    # At this pace more is claimed than there are slots.
    worker._claimer._pace = 1000.0
    running = asyncio.create_task(worker.run())
    await busy(bench)
    assert bench.jobs() == ["running"] * 3
    await cancel_job(bench.database, JobId(2), "not wanted")
    worker.notified("cancel")
    # A look that was under way already may have seen nothing of it.
    while not worker._canceller._requests:
        await bench.events.until(StatementRun, len(looks(bench)) + 1, is_look)
    release.set()
    await bench.events.until(JobFinished, count=3)
    await worker.stop(20.0)
    await running

    assert ran == [3]
    assert bench.jobs() == ["succeeded", "cancelled", "succeeded"]


@pytest.mark.parametrize("way_back", ["rescued", "given back"])
async def test_a_request_outlives_the_worker_that_was_asked(bench: Bench, way_back: str) -> None:
    ran = list[int]()

    @bench.app.job("note")
    async def note() -> None:
        ran.append(current_job().id)

    job_id = await bench.app.enqueue("note")
    lost = bench.join()
    bench.sql.execute(
        "UPDATE pillars.jobs SET state = 'running', attempt = 1, started_at = now(), "
        "worker_id = %s",
        (lost,),
    )
    await cancel_job(bench.database, job_id, "not wanted")
    if way_back == "rescued":
        async with bench.database.transaction() as connection:
            await rescue(connection, [lost])
    else:
        worker = bench.worker()
        await worker._claimer._claims.give_back_others(lost, [])
    assert bench.jobs() == ["available"]

    async with bench.working():
        (end,) = await bench.events.until(JobFinished)

    assert ran == []
    assert (end.outcome, bench.jobs("state, error")) == ("cancelled", [("cancelled", "not wanted")])


async def test_a_request_for_an_earlier_attempt_does_not_stop_a_later_one(bench: Bench) -> None:
    bench.app.job("wait")(asyncio.Event().wait)
    await bench.app.enqueue("wait")

    async with bench.working(patience=0.0) as worker:
        await busy(bench)
        worker._canceller._requests = {(JobId(1), 9): "another attempt"}
        worker._stop_attempts(worker._canceller._requests)
        assert bench.events.of(JobStopping) == []


async def test_overlap_cancel_other_stops_the_job_of_the_last_tick_before_the_next_runs(
    bench: Bench,
) -> None:
    bench.clock = clock = FakeClock(NOON)
    running, most, finish = list[int](), list[int](), asyncio.Event()

    @bench.app.job("report")
    async def report() -> None:
        running.append(current_job().id)
        most.append(len(running))
        try:
            await finish.wait()
        finally:
            # A clean-up of its own, during which the next must not run yet.
            await asyncio.sleep(0)
            running.remove(current_job().id)

    definition = schedule(job="report", overlap="cancel_other")
    await write(bench.database, bench.sql, definition, cursor=at(0))
    ticker = own(bench.database, bench.events, clock)
    await ticker.step()
    async with bench.working() as worker:
        await busy(bench)
        clock.advance(10)
        await ticker.step()
        worker.notified("cancel")
        (first,) = await bench.events.until(JobFinished)
        await bench.events.until(SlotsUsed, where=lambda _: len(most) == 2)
        finish.set()
        await bench.events.until(JobFinished, count=2)

    assert most == [1, 1]
    assert (first.outcome, first.error) == (
        "cancelled",
        "overlap: cancel_other, and a later tick was due",
    )
    assert bench.jobs("state, fire_at") == [("cancelled", at(0)), ("succeeded", at(10))]
