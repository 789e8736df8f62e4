from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.sql import SQL, Identifier

from pillars.cluster.agent import Membership
from pillars.cluster.members import list_members
from pillars.cluster.ring import SLOTS
from pillars.ground.events import JobLost, MemberExpelled, MemberJoined, MembershipLost, RingMoved
from pillars.queue.enqueue import enqueue
from pillars.queue.jobs import NewJob
from pillars.queue.upkeep import MOST_RESCUES, rescue
from tests.helpers import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    import psycopg

    from pillars.db.database import Database
    from tests.helpers import RecordingListener

LEASE = 5.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make(
    database: Database,
    events: RecordingListener,
    clock: FakeClock,
) -> Callable[..., Membership]:
    def build(name: str, role: str = "cron") -> Membership:
        return Membership(
            database.link(name),
            role=role,
            name=name,
            pid=1,
            url="http://127.0.0.1:1",
            app_version="0",
            lease=LEASE,
            on_expel=rescue,
            emit=events,
            clock=clock,
        )

    return build


async def joined(make: Callable[..., Membership], *names: str) -> list[Membership]:
    agents = [make(name) for name in names]
    for agent in agents:
        await agent.join()
        await agent.activate()
    for agent in agents:
        await agent.step()
    return agents


@pytest.fixture
def age(sql: psycopg.Connection[Any], clock: FakeClock) -> Callable[..., None]:
    """Set an instant of a member, or of all, so many seconds back."""

    def set_back(column: str, member: UUID | None, seconds: float) -> None:
        sql.execute(
            SQL("UPDATE pillars.members SET {} = %s WHERE %s::uuid IS NULL OR id = %s").format(
                Identifier(column)
            ),
            (clock.now - timedelta(seconds=seconds), member, member),
        )

    return set_back


async def test_three_crons_share_all_slots(make: Callable[..., Membership]) -> None:
    agents = await joined(make, "a", "b", "c")

    assert sorted(agent.slot_count for agent in agents) == [1365, 1365, 1366]


async def test_a_silent_member_is_expelled_and_its_slots_are_taken_over(
    make: Callable[..., Membership],
    age: Callable[..., None],
    events: RecordingListener,
) -> None:
    a, b, c = await joined(make, "a", "b", "c")
    age("streak_at", a.member_id, LEASE + 1)
    age("heartbeat_at", c.member_id, LEASE + 1)

    await a.step()
    await b.step()

    assert [(e.name, e.reason) for e in events.of(MemberExpelled)] == [("c", "silent")]
    assert a.slot_count + b.slot_count == SLOTS
    assert events.of(RingMoved)[-1].reason == "expel"


async def test_a_member_that_beats_but_does_nothing_is_expelled(
    make: Callable[..., Membership],
    age: Callable[..., None],
    events: RecordingListener,
    clock: FakeClock,
) -> None:
    a, hung = await joined(make, "a", "hung")
    clock.advance(LEASE * 3 + 1)
    a.progressed()
    await hung.step()
    age("streak_at", a.member_id, LEASE + 1)
    age("heartbeat_at", a.member_id, 1)

    await a.step()

    assert [(e.name, e.reason) for e in events.of(MemberExpelled)] == [("hung", "no progress")]


async def test_after_a_stall_of_the_database_nobody_is_expelled(
    make: Callable[..., Membership],
    age: Callable[..., None],
    events: RecordingListener,
) -> None:
    a, b, c = await joined(make, "a", "b", "c")
    age("streak_at", None, 100)
    age("heartbeat_at", None, LEASE + 1)

    for agent in (a, b, c):
        await agent.step()

    assert events.of(MemberExpelled) == []


async def test_a_heartbeat_that_was_itself_delayed_gives_no_right_to_expel(
    make: Callable[..., Membership],
    age: Callable[..., None],
    events: RecordingListener,
) -> None:
    a, _ = await joined(make, "a", "b")
    age("streak_at", None, 100)
    age("heartbeat_at", None, LEASE + 1)

    await a._expel()

    assert events.of(MemberExpelled) == []


async def test_a_member_that_finds_its_row_gone_joins_anew_under_another_id(
    make: Callable[..., Membership],
    sql: psycopg.Connection[Any],
    events: RecordingListener,
) -> None:
    a, b = await joined(make, "a", "b")
    old = a.member_id
    sql.execute("DELETE FROM pillars.members WHERE id = %s", (old,))

    await a.step()
    assert a.slot_count == 0
    await a.step()
    await b.step()

    assert a.member_id not in (None, old)
    assert len(events.of(MembershipLost)) == 1
    assert a.slot_count == b.slot_count == SLOTS // 2


async def test_a_cron_that_joins_anew_says_at_once_which_files_it_holds(
    make: Callable[..., Membership], database: Database
) -> None:
    cron = make("a")
    cron.holds("digest")

    await cron.join()

    assert [member.schedules_digest for member in await list_members(database)] == ["digest"]


async def test_a_map_of_the_same_version_that_is_another_is_taken_over(
    make: Callable[..., Membership], sql: psycopg.Connection[Any]
) -> None:
    a, b, c = await joined(make, "a", "b", "c")
    for agent in (a, b):
        await agent.step()
    # As a standby that was promoted without c's coming, and then expelled b.
    sql.execute("DELETE FROM pillars.members WHERE id IN (%s, %s)", (b.member_id, c.member_id))
    sql.execute(
        "UPDATE pillars.ring SET map = array_fill(%s::uuid, ARRAY[4096]), changed_at = now()",
        (a.member_id,),
    )

    await a.step()

    assert a.slot_count == SLOTS


async def test_a_join_that_was_cut_short_is_made_up_for(
    make: Callable[..., Membership],
    events: RecordingListener,
) -> None:
    cron = make("a")
    await cron.join()

    await cron.step()

    assert cron.slot_count == SLOTS
    assert [event.name for event in events.of(MemberJoined)] == ["a"]


async def test_a_member_that_cannot_heartbeat_stops_trusting_its_ownership(
    make: Callable[..., Membership],
    clock: FakeClock,
) -> None:
    (a,) = await joined(make, "a")
    assert int.from_bytes(a.slots, "big").bit_count() == SLOTS

    clock.advance(0.8 * LEASE)

    assert a.slots == bytes(SLOTS // 8)


async def test_a_leaving_cron_keeps_its_slots_until_the_others_have_seen_the_new_map(
    make: Callable[..., Membership],
    database: Database,
) -> None:
    a, b = await joined(make, "a", "b")

    version = await a.begin_leave()
    assert a.slot_count == SLOTS // 2
    assert not await a.handed_over(version)
    await b.step()
    await b.step()
    assert await a.handed_over(version)
    await a.leave()

    assert b.slot_count == SLOTS
    assert [member.name for member in await list_members(database)] == ["b"]


async def test_the_jobs_of_an_expelled_worker_go_back_to_the_queue(
    make: Callable[..., Membership],
    database: Database,
    sql: psycopg.Connection[Any],
    age: Callable[..., None],
    events: RecordingListener,
) -> None:
    (cron,) = await joined(make, "a")
    worker = make("w", "worker")
    await worker.join()
    await worker.activate()
    async with database.connection() as connection:
        await enqueue(connection, [NewJob("x")])
    sql.execute(
        "UPDATE pillars.jobs SET state = 'running', worker_id = %s, attempt = 1",
        (worker.member_id,),
    )
    age("streak_at", cron.member_id, LEASE + 1)
    age("heartbeat_at", worker.member_id, LEASE + 1)

    await cron.step()

    assert [e.jobs_rescued for e in events.of(MemberExpelled)] == [1]
    assert sql.execute("SELECT state, rescues FROM pillars.jobs").fetchall() == [("available", 1)]
    assert events.of(JobLost) == []


@pytest.mark.parametrize("way", ["expelled", "left"])
async def test_a_job_that_dies_of_lost_workers_is_told_of_once_by_whoever_removed_the_last(
    way: str,
    make: Callable[..., Membership],
    database: Database,
    sql: psycopg.Connection[Any],
    age: Callable[..., None],
    events: RecordingListener,
) -> None:
    crons = await joined(make, "a", "b")
    worker = make("w", "worker")
    await worker.join()
    await worker.activate()
    async with database.connection() as connection:
        await enqueue(connection, [NewJob("poison"), NewJob("other")])
    sql.execute(
        "UPDATE pillars.jobs SET state = 'running', worker_id = %s, attempt = 5, "
        "rescues = CASE type WHEN 'poison' THEN %s ELSE 0 END",
        (worker.member_id, MOST_RESCUES - 1),
    )

    if way == "left":
        await worker.leave()
    else:
        age("heartbeat_at", worker.member_id, LEASE + 1)
        for cron in crons:
            age("streak_at", cron.member_id, LEASE + 1)
    for cron in crons:
        await cron.step()

    assert [(job.type, job.attempt) for job in events.of(JobLost)] == [("poison", 5)]
    assert [e.jobs_rescued for e in events.of(MemberExpelled)] == [1] * (way == "expelled")
