"""What a tick does while the job of an earlier one has not ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pillars.ground.events import TicksFired
from pillars.queue.attempt import Ended, Job
from pillars.queue.claims import Claims
from pillars.queue.states import JobState
from tests.cron.ticking import NOON, at, own, rows, schedule, write
from tests.helpers import FakeClock, new_member

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    from pillars.cron.ticker import OwnTicker
    from pillars.db.database import Database
    from tests.helpers import RecordingListener


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOON)


class Scene:
    """A schedule that ticks each ten seconds, a ticker, and a worker that takes what it may."""

    def __init__(
        self,
        database: Database,
        sql: psycopg.Connection[Any],
        events: RecordingListener,
        clock: FakeClock,
    ) -> None:
        self._database, self._sql, self._clock = database, sql, clock
        self._ticker: OwnTicker = own(database, events, clock)
        self._claims = Claims(database.link("claims"), clock)
        self._worker: UUID = new_member(sql)

    async def begin(self, overlap: str) -> None:
        await write(self._database, self._sql, schedule(overlap=overlap), cursor=at(0))
        await self._ticker.step()

    async def tick(self) -> None:
        self._clock.advance(10)
        await self._ticker.step()

    async def claim(self) -> list[Job]:
        return await self._claims.claim(self._worker, [], 10)

    async def end(self, job: Job, state: JobState = JobState.SUCCEEDED) -> None:
        retry_in = 0.0 if state is JobState.FAILED else None
        result = Ended(job.id, job.attempt, state, retry_in=retry_in)
        assert await self._claims.finish(self._worker, [result]) == []
        await self._claims.make_room([job])

    async def requests(self) -> set[int]:
        return {job_id for job_id, _ in await self._claims.cancel_requests(self._worker)}


@pytest.fixture
def scene(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> Scene:
    return Scene(database, sql, events, clock)


async def test_with_buffer_one_a_tick_waits_for_the_job_of_an_earlier_one(
    scene: Scene, sql: psycopg.Connection[Any]
) -> None:
    await scene.begin("buffer_one")
    (first,) = await scene.claim()

    await scene.tick()

    assert await scene.claim() == []
    await scene.end(first)
    (second,) = await scene.claim()
    assert second.fire_at == at(10)
    assert rows(sql, "reason")[1] == ("overlap: buffer_one, waited for the job of an earlier tick",)


async def test_with_buffer_one_further_ticks_are_skipped_while_one_waits(
    scene: Scene, sql: psycopg.Connection[Any]
) -> None:
    await scene.begin("buffer_one")
    await scene.claim()

    await scene.tick()
    await scene.tick()

    assert rows(sql) == [("running", at(0)), ("available", at(10)), ("skipped", at(20))]
    assert rows(sql, "reason")[2] == ("overlap: buffer_one, and a tick waits already",)


async def test_with_buffer_one_a_job_that_waits_for_its_retry_does_not_run_beside_the_next(
    scene: Scene,
) -> None:
    await scene.begin("buffer_one")
    (first,) = await scene.claim()
    await scene.tick()
    await scene.end(first, JobState.FAILED)

    running = await scene.claim()

    assert len(running) == 1


async def test_with_cancel_other_the_running_job_is_asked_to_stop_and_the_new_one_waits_for_it(
    scene: Scene, sql: psycopg.Connection[Any]
) -> None:
    await scene.begin("cancel_other")
    (first,) = await scene.claim()

    await scene.tick()

    assert await scene.requests() == {first.id}
    assert await scene.claim() == []
    await scene.end(first, JobState.CANCELLED)
    (second,) = await scene.claim()
    assert second.fire_at == at(10)
    assert rows(sql) == [("cancelled", at(0)), ("running", at(10))]


async def test_with_cancel_other_a_job_that_still_waits_is_cancelled_at_once(
    scene: Scene, sql: psycopg.Connection[Any]
) -> None:
    await scene.begin("cancel_other")

    await scene.tick()

    assert rows(sql) == [("cancelled", at(0)), ("available", at(10))]
    assert rows(sql, "reason")[0] == ("overlap: cancel_other, and a later tick was due",)


async def test_with_cancel_other_ticks_of_other_schedules_are_left_alone(
    scene: Scene,
    database: Database,
    sql: psycopg.Connection[Any],
) -> None:
    mixed = (schedule("a", overlap="cancel_other"), schedule("b"), schedule("c", overlap="skip"))
    await write(database, sql, *mixed, cursor=at(10))
    await scene.tick()
    sql.execute("UPDATE pillars.schedules SET next_fire_at = %s", (at(20),))

    await scene.tick()

    found = sql.execute("SELECT schedule, state::text FROM pillars.jobs ORDER BY schedule, fire_at")
    assert found.fetchall() == [
        ("a", "cancelled"),
        ("a", "available"),
        ("b", "available"),
        ("b", "available"),
        ("c", "available"),
        ("c", "skipped"),
    ]


async def test_with_overlap_skip_a_tick_is_decided_at_its_time_and_waits_for_no_job(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule(overlap="skip"), cursor=at(5))
    ticker = own(database, events, clock)

    await ticker.step()
    assert rows(sql) == []
    clock.advance(5)
    await ticker.step()
    clock.advance(5)
    sql.execute("UPDATE pillars.schedules SET next_fire_at = %s", (at(10),))
    await ticker.step()
    sql.execute(
        "UPDATE pillars.jobs SET state = 'succeeded', finished_at = now() WHERE reason IS NULL"
    )
    clock.advance(10)
    await ticker.step()

    assert rows(sql) == [("succeeded", at(5)), ("skipped", at(10)), ("available", at(20))]
    assert rows(sql, "reason")[1] == (
        "overlap: skip, and the job of an earlier tick has not ended",
    )
    assert [event.outcomes for event in events.of(TicksFired)] == [
        {"enqueued": 1},
        {"skipped": 1},
        {"enqueued": 1},
    ]


async def test_with_overlap_skip_only_the_newest_of_several_late_ticks_is_enqueued(
    database: Database,
    sql: psycopg.Connection[Any],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    await write(database, sql, schedule(every="5s", overlap="skip"), cursor=at(-10))

    await own(database, events, clock).step()

    assert rows(sql) == [("skipped", at(-10)), ("skipped", at(-5)), ("available", at(0))]
