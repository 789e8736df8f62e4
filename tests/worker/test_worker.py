from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import uuid4

from pillars import NewJob, RetryPolicy, Snooze, current_job
from pillars.ground.events import (
    FinishRefused,
    JobFinished,
    JobsClaimed,
    JobsReturned,
    LoopFailed,
    LoopRecovered,
    SlotsUsed,
)
from pillars.queue.claims import Claims
from pillars.queue.upkeep import rescue
from tests.helpers import FakeClock, until_one_waits_for_a_lock

if TYPE_CHECKING:
    import psycopg
    import pytest

    from tests.worker.conftest import Bench

AT_ONCE = RetryPolicy(max_attempts=3, base=0.0)


async def test_jobs_are_run_and_written_as_succeeded(bench: Bench) -> None:
    seen: list[int] = []

    @bench.app.job("note")
    async def note(n: int) -> None:
        seen.append(n)

    await bench.app.enqueue_many([NewJob("note", {"n": n}) for n in range(50)])
    async with bench.working():
        await bench.events.until(JobFinished, count=50)

    assert sorted(seen) == list(range(50))
    assert bench.jobs() == ["succeeded"] * 50
    assert sum(event.count for event in bench.events.of(JobsClaimed)) == 50
    assert bench.passes == len(bench.events.of(SlotsUsed)) > 0


async def test_no_more_jobs_run_at_once_than_there_are_slots(bench: Bench) -> None:
    running, most = 0, 0
    full = asyncio.Event()

    @bench.app.job("count")
    async def count() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0)
        running -= 1

    await bench.app.enqueue_many([NewJob("count")] * 20)
    async with bench.working(concurrency=3):
        await bench.events.until(JobFinished, count=20)

    assert most == 3


async def test_a_slow_job_does_not_hold_up_the_result_of_a_fast_one(bench: Bench) -> None:
    release = asyncio.Event()
    bench.app.job("slow")(release.wait)
    await bench.app.enqueue_many([NewJob("slow"), NewJob("noop")])

    async with bench.working(concurrency=2):
        (first,) = await bench.events.until(JobFinished)
        assert bench.jobs() == ["running", "succeeded"]
        release.set()

    assert (first.type, first.outcome) == ("noop", "succeeded")
    assert bench.jobs() == ["succeeded", "succeeded"]


async def test_a_worker_with_fewer_slots_than_jobs_leaves_the_rest_to_others(bench: Bench) -> None:
    release = asyncio.Event()
    bench.app.job("slow")(release.wait)
    await bench.app.enqueue_many([NewJob("slow")] * 5)

    async with bench.working(concurrency=2):
        await bench.events.until(JobsClaimed)
        assert bench.jobs() == ["running"] * 2 + ["available"] * 3
        release.set()
        await bench.events.until(JobFinished, count=5)


async def test_jobs_buffered_behind_slow_ones_go_back_for_others(bench: Bench) -> None:
    release = asyncio.Event()
    bench.app.job("slow")(release.wait)
    await bench.app.enqueue_many([NewJob("noop")] * 2000)
    await bench.app.enqueue("slow", priority=1)
    await bench.app.enqueue_many([NewJob("noop", priority=2)] * 2000)

    async with bench.working(concurrency=1):
        await bench.events.until(JobsReturned)
        while bench.jobs().count("running") > 1:
            await bench.events.until(JobsReturned, count=len(bench.events.of(JobsReturned)) + 1)
        assert set(bench.jobs("attempt")[2001:]) == {0}
        release.set()
        await bench.events.until(JobFinished, count=4001)


async def test_a_job_starts_at_its_run_at_and_not_before(bench: Bench) -> None:
    await bench.app.enqueue("noop", delay=0.2)

    async with bench.working():
        await bench.events.until(JobFinished)

    assert bench.jobs("started_at >= run_at") == [True]


async def test_a_job_that_fails_is_tried_again_until_it_is_dead(bench: Bench) -> None:
    attempts: list[int] = []

    @bench.app.job("fragile", retry=AT_ONCE)
    async def fragile() -> NoReturn:
        attempts.append(current_job().attempt)
        raise ValueError("boom")

    await bench.app.enqueue("fragile")
    async with bench.working():
        ends = await bench.events.until(JobFinished, count=3)

    assert attempts == [1, 2, 3]
    assert [end.outcome for end in ends] == ["failed", "failed", "dead"]
    assert [end.error for end in ends] == ["ValueError: boom"] * 3
    ((state, error),) = bench.jobs("state, error")
    assert state == "dead"
    assert error.startswith("ValueError: boom\nTraceback (most recent call last):\n")
    assert "raise ValueError" in error


async def test_a_snoozed_attempt_does_not_count(bench: Bench) -> None:
    attempts: list[int] = []

    @bench.app.job("patient", max_attempts=1)
    async def patient() -> None:
        attempts.append(current_job().attempt)
        if len(attempts) < 3:
            raise Snooze(0, "not yet")

    await bench.app.enqueue("patient")
    async with bench.working():
        ends = await bench.events.until(JobFinished, count=3)

    assert attempts == [1, 1, 1]
    assert [(end.outcome, end.error) for end in ends] == [("snoozed", "not yet")] * 2 + [
        ("succeeded", None)
    ]
    assert bench.jobs("state, attempt, error") == [("succeeded", 1, None)]


async def test_an_unknown_type_is_kept_for_a_newer_worker(bench: Bench) -> None:
    await bench.app.enqueue("not.yet", max_attempts=1, expires_in=3600)

    async with bench.working():
        (end,) = await bench.events.until(JobFinished)

    assert (end.outcome, bench.jobs()) == ("unknown", ["available"])
    assert end.error is not None
    assert end.error.startswith("job type 'not.yet' is unknown to this worker")
    # As if nobody had touched it, but for the pause.
    assert bench.jobs("attempt, started_at, expires_at > run_at, error") == [
        (0, None, True, end.error)
    ]


async def test_a_handler_that_exits_does_not_take_the_worker_along(bench: Bench) -> None:
    bench.app.job("exit.thread", max_attempts=1)(sys.exit)

    @bench.app.job("exit.loop", max_attempts=1)
    async def leave() -> NoReturn:
        sys.exit(1)

    await bench.app.enqueue_many([NewJob("exit.loop"), NewJob("exit.thread"), NewJob("noop")])
    async with bench.working(concurrency=1):
        await bench.events.until(JobFinished, count=3)

    assert bench.jobs() == ["dead", "dead", "succeeded"]


async def test_a_thread_past_its_timeout_keeps_its_slot_until_it_ends(bench: Bench) -> None:
    release = threading.Event()

    @bench.app.job("stuck", timeout=0.01, max_attempts=1)
    def stuck() -> None:
        release.wait()

    await bench.app.enqueue_many([NewJob("stuck"), NewJob("noop")])
    async with bench.working(concurrency=1) as worker:
        (first,) = await bench.events.until(JobFinished)
        passes = bench.passes
        worker.wake()
        await bench.events.until(SlotsUsed, count=passes + 1)
        assert bench.jobs() == ["dead", "available"]
        release.set()
        await bench.events.until(JobFinished, count=2)

    assert first.error == "timed out after 0.01 s; its thread goes on until the function returns"
    assert bench.jobs() == ["dead", "succeeded"]


async def test_context_variables_of_one_job_are_not_seen_by_the_next(bench: Bench) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")
    seen: list[str] = []

    @bench.app.job("mark")
    async def mark() -> None:
        seen.append(variable.get())
        variable.set("dirty")

    @bench.app.job("cancel", max_attempts=1)
    async def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    await bench.app.enqueue_many([NewJob("mark"), NewJob("cancel"), NewJob("mark")])
    async with bench.working(concurrency=1):
        await bench.events.until(JobFinished, count=3)

    assert seen == ["clean", "clean"]


async def test_a_result_that_comes_after_an_expulsion_is_refused(bench: Bench) -> None:
    release = asyncio.Event()
    bench.app.job("slow")(release.wait)
    await bench.app.enqueue("slow")

    async with bench.working(concurrency=1):
        await bench.events.until(SlotsUsed, where=lambda event: event.busy == 1)
        await _expel(bench)
        release.set()
        (refused,) = await bench.events.until(FinishRefused)

    assert len(refused.job_ids) == 1
    assert bench.events.of(JobFinished) == []
    assert bench.jobs() == ["available"]


async def test_an_expelled_worker_goes_on_under_its_new_id(bench: Bench) -> None:
    release = asyncio.Event()
    bench.app.job("slow")(release.wait)
    await bench.app.enqueue("slow")

    async with bench.working(concurrency=1) as worker:
        await bench.events.until(SlotsUsed, where=lambda event: event.busy == 1)
        await _expel(bench)
        renewed = bench.join()
        release.set()
        await bench.events.until(FinishRefused)
        worker.wake()
        (end,) = await bench.events.until(JobFinished)

    assert (end.attempt, end.outcome) == (2, "succeeded")
    assert bench.jobs("worker_id") == [renewed]


async def test_a_worker_that_is_no_member_claims_nothing(bench: Bench) -> None:
    await bench.app.enqueue("noop")
    bench.identity = uuid4()

    async with bench.working():
        await bench.events.until(SlotsUsed)

    assert bench.jobs() == ["available"]


async def test_a_stop_gives_back_what_was_not_started_and_finishes_the_rest(bench: Bench) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @bench.app.job("slow")
    async def slow() -> None:
        started.set()
        await release.wait()

    # At this pace the claimer prefetches; then a slow one leaves the rest in the buffer.
    await bench.app.enqueue_many([NewJob("noop")] * 2000)
    await bench.app.enqueue("slow", priority=1)
    await bench.app.enqueue_many([NewJob("noop", priority=2)] * 2000)
    worker = bench.worker(concurrency=1)
    running = asyncio.create_task(worker.run())
    await started.wait()
    stopping = asyncio.create_task(worker.stop(30.0))
    await bench.events.until(JobsReturned, where=lambda event: event.count > 0)
    release.set()
    await stopping
    await running

    states = bench.jobs()
    assert states[:2001] == ["succeeded"] * 2001
    assert set(states[2001:]) == {"available"}
    assert set(bench.jobs("attempt")[2001:]) == {0}


async def test_jobs_cut_short_by_a_stop_are_given_back_without_an_attempt(bench: Bench) -> None:
    seen: list[bool] = []

    @bench.app.job("loop")
    async def forever() -> None:
        await asyncio.Event().wait()

    @bench.app.job("thread")
    def watchful() -> None:
        seen.append(current_job().cancelled.wait(30))
        raise RuntimeError("stopped half-way")

    @bench.app.job("client")
    async def translates() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("cut off") from None

    names = ("loop", "thread", "client")
    await bench.app.enqueue_many([NewJob(name, expires_in=60) for name in names])
    async with bench.working(patience=0.0):
        await bench.events.until(SlotsUsed, where=lambda event: event.busy == 3)

    assert seen == [True]
    # They were started in time: nothing of theirs expires any more.
    assert bench.jobs("state, attempt, expires_at") == [("available", 0, None)] * 3
    assert bench.events.of(JobFinished) == []


async def test_a_second_stop_may_shorten_the_first(bench: Bench) -> None:
    @bench.app.job("loop")
    async def forever() -> None:
        await asyncio.Event().wait()

    await bench.app.enqueue("loop")
    async with bench.working(patience=0.0) as worker:
        await bench.events.until(SlotsUsed, where=lambda event: event.busy == 1)
        patient = asyncio.create_task(worker.stop(1000.0))
    await patient

    assert bench.jobs() == ["available"]


async def test_terminated_connections_lose_nothing(
    bench: Bench,
    sql: psycopg.Connection[Any],
) -> None:
    runs: list[int] = []

    @bench.app.job("note")
    async def note(n: int) -> None:
        runs.append(n)

    await bench.app.enqueue_many([NewJob("note", {"n": n}) for n in range(3000)])
    async with bench.working(concurrency=20):
        for done in (200, 800, 1400):
            await bench.events.until(JobFinished, count=done)
            sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await bench.events.until(JobFinished, count=3000)

    assert bench.jobs() == ["succeeded"] * 3000
    assert set(runs) == set(range(3000))
    assert bench.events.of(LoopRecovered) != []
    assert len(bench.events.of(JobFinished)) == 3000


async def test_jobs_of_a_claim_whose_answer_was_lost_are_found_again(
    bench: Bench,
    sql: psycopg.Connection[Any],
) -> None:
    bench.join()
    await bench.app.enqueue_many([NewJob("noop")] * 3)
    # What a claim leaves behind that was committed and never answered.
    sql.execute(
        "UPDATE pillars.jobs SET state = 'running', attempt = 1, started_at = now(), "
        "worker_id = %s",
        (bench.identity,),
    )
    async with bench.working() as worker:
        await bench.events.until(SlotsUsed)
        assert bench.jobs() == ["running"] * 3
        with sql.transaction():
            sql.execute("SELECT FROM pillars.members FOR UPDATE")
            await bench.app.enqueue("noop")
            worker.wake()
            await until_one_waits_for_a_lock(bench.database)
            sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE '%claim' AND pid <> pg_backend_pid()"
            )
        await bench.events.until(JobFinished, count=4)

    assert bench.jobs("state, attempt") == [("succeeded", 1)] * 4


async def test_a_fake_clock_decides_what_is_due(bench: Bench) -> None:
    bench.clock = FakeClock(datetime(2050, 1, 1, tzinfo=UTC))
    await bench.app.enqueue("noop", run_at=bench.clock.now + timedelta(hours=1))

    async with bench.working() as worker:
        await bench.events.until(SlotsUsed)
        assert bench.jobs() == ["available"]
        bench.clock.advance(3600)
        worker.wake()
        await bench.events.until(JobFinished)

    assert bench.jobs() == ["succeeded"]


async def _expel(bench: Bench) -> None:
    lost, bench.identity = bench.identity, None
    assert lost is not None
    async with bench.database.transaction() as connection:
        await connection.execute("DELETE FROM pillars.members WHERE id = %s", (lost,))
        assert await rescue(connection, [lost]) == (1, [])


async def test_snoozes_of_whole_seconds_and_failures_are_written_together(bench: Bench) -> None:
    @bench.app.job("busy")
    async def busy() -> NoReturn:
        raise Snooze(60)

    @bench.app.job("fragile")
    async def fragile() -> NoReturn:
        raise ValueError("boom")

    await bench.app.enqueue_many([NewJob("busy"), NewJob("fragile"), NewJob("unknown")])
    async with bench.working():
        await bench.events.until(JobFinished, count=3)

    assert bench.jobs() == ["available", "failed", "available"]
    assert bench.events.of(LoopRecovered) == []


async def test_while_lost_claims_cannot_be_looked_for_others_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> NoReturn:
        raise TimeoutError

    monkeypatch.setattr(Claims, "give_back_others", fail)
    await bench.app.enqueue("noop")
    async with bench.working() as worker:
        worker._claimer._suspicions = [0.0]
        await bench.events.until(JobFinished)
        await bench.events.until(LoopFailed)

    assert bench.jobs() == ["succeeded"]
