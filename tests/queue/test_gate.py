"""Jobs that share a concurrency key: how many run, in which order, and whom nothing forgets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pillars.ground.clock import SystemClock
from pillars.queue import gate
from pillars.queue.attempt import Ended, Job
from pillars.queue.claims import Claims
from pillars.queue.enqueue import enqueue
from pillars.queue.gate import Gate, GateKeeper
from pillars.queue.jobs import NewJob
from pillars.queue.limits import pause_queue
from pillars.queue.states import JobState
from pillars.queue.upkeep import rescue
from tests.helpers import new_member

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import psycopg

    from pillars.db.database import Database


@pytest.fixture
def claims(database: Database) -> Claims:
    return Claims(database.link("claims"), SystemClock())


async def put(database: Database, count: int, key: str = "k", limit: int = 1, **more: Any) -> None:
    jobs = [
        NewJob(f"t{n}", concurrency_key=key, concurrency_limit=limit, **more) for n in range(count)
    ]
    async with database.connection() as connection:
        await enqueue(connection, jobs)


def types(jobs: Sequence[Job]) -> list[str]:
    return [job.type for job in jobs]


def gates(sql: psycopg.Connection[Any]) -> list[str]:
    rows = sql.execute("SELECT gate::text FROM pillars.jobs WHERE finished_at IS NULL ORDER BY id")
    return [row[0] for row in rows]


async def end(claims: Claims, worker: UUID, jobs: Sequence[Job]) -> None:
    results = [Ended(job.id, job.attempt, JobState.SUCCEEDED) for job in jobs]
    assert await claims.finish(worker, results) == []
    await claims.make_room(jobs)


async def test_of_jobs_that_share_a_key_as_many_run_as_the_limit_says(
    database: Database, claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    await put(database, 5, limit=2)

    jobs = await claims.claim(worker, [], 10)

    assert types(jobs) == ["t0", "t1"]
    assert gates(sql) == ["holding"] * 2 + ["parked"] * 3


async def test_a_job_that_has_no_room_is_waiting_as_if_it_had_never_been_claimed(
    database: Database, claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    await put(database, 2)

    await claims.claim(worker, [], 10)

    ((state, attempt, started_at, worker_id),) = sql.execute(
        "SELECT state, attempt, started_at, worker_id FROM pillars.jobs WHERE gate = 'parked'"
    )
    assert (state, attempt, started_at, worker_id) == ("available", 0, None, None)


async def test_the_end_of_a_job_lets_the_next_of_its_key_run_first_in_first_out(
    database: Database, claims: Claims, worker: UUID
) -> None:
    await put(database, 3)
    order = []
    for _ in range(3):
        jobs = await claims.claim(worker, [], 10)
        order += types(jobs)
        await end(claims, worker, jobs)

    assert order == ["t0", "t1", "t2"]


async def test_a_better_priority_passes_the_line_of_a_key(
    database: Database, claims: Claims, worker: UUID
) -> None:
    await put(database, 2)
    first = await claims.claim(worker, [], 10)
    async with database.connection() as connection:
        await enqueue(connection, [NewJob("urgent", concurrency_key="k", priority=-1)])
    assert await claims.claim(worker, [], 10) == []

    await end(claims, worker, first)

    assert types(await claims.claim(worker, [], 10)) == ["urgent"]


async def test_a_later_job_does_not_pass_one_that_is_parked_or_just_opened(
    database: Database, claims: Claims, worker: UUID
) -> None:
    await put(database, 2)
    first = await claims.claim(worker, [], 10)
    await end(claims, worker, first)
    async with database.connection() as connection:
        await enqueue(connection, [NewJob("late", concurrency_key="k")])

    assert types(await claims.claim(worker, [], 10)) == ["t1"]


async def test_keys_do_not_stand_in_each_others_way(
    database: Database, claims: Claims, worker: UUID
) -> None:
    await put(database, 2, key="a")
    await put(database, 2, key="b")

    assert types(await claims.claim(worker, [], 10)) == ["t0", "t0"]


async def test_a_long_line_of_one_key_does_not_hide_the_jobs_behind_it(
    database: Database, claims: Claims, worker: UUID
) -> None:
    await put(database, 50)
    async with database.connection() as connection:
        await enqueue(connection, [NewJob("free")])

    assert types(await claims.claim(worker, [], 5)) == ["t0", "free"]


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.AVAILABLE])
async def test_a_job_that_waits_for_its_retry_holds_nothing(
    database: Database, claims: Claims, worker: UUID, state: JobState
) -> None:
    await put(database, 2)
    (job,) = await claims.claim(worker, [], 10)

    await claims.finish(worker, [Ended(job.id, job.attempt, state, retry_in=60.0)])
    await claims.make_room([job])

    assert types(await claims.claim(worker, [], 10)) == ["t1"]


async def test_of_two_workers_that_claim_at_once_one_gets_the_key(
    database: Database, sql: psycopg.Connection[Any]
) -> None:
    await put(database, 40)
    workers = [new_member(sql) for _ in range(4)]
    sides = [Claims(database.link(f"claims {n}"), SystemClock()) for n in range(4)]

    found = await asyncio.gather(
        *(side.claim(worker, [], 10) for side, worker in zip(sides, workers, strict=True))
    )

    assert sum(map(len, found)) <= 1
    assert gates(sql).count("holding") == sum(map(len, found))


async def test_the_jobs_of_a_lost_worker_leave_room_that_the_keeper_finds(
    database: Database, claims: Claims, sql: psycopg.Connection[Any]
) -> None:
    lost, other = new_member(sql), new_member(sql)
    await put(database, 2)
    await claims.claim(lost, [], 10)
    async with database.transaction() as connection:
        await rescue(connection, [lost])
    (job,) = await claims.claim(other, [], 10)
    # Its end is written; whoever wrote it dies before it makes room.
    await claims.finish(other, [Ended(job.id, job.attempt, JobState.SUCCEEDED)])
    assert gates(sql) == ["parked"]

    await GateKeeper(database.link("gates"), SystemClock()).step()

    assert gates(sql) == ["open"]


async def test_the_keeper_opens_no_more_than_there_is_room(
    database: Database, claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    await put(database, 5, limit=2)
    await claims.claim(worker, [], 10)
    keeper = GateKeeper(database.link("gates"), SystemClock())

    await keeper.step()
    await keeper.step()

    assert gates(sql) == ["holding"] * 2 + ["parked"] * 3


async def test_a_long_line_of_a_key_is_parked_without_being_claimed_job_by_job(
    database: Database, claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    await put(database, 300)
    async with database.connection() as connection:
        await enqueue(connection, [NewJob("behind")])

    assert types(await claims.claim(worker, [], 1)) == ["t0"]
    assert types(await claims.claim(worker, [], 1)) == ["behind"]
    assert gates(sql) == ["holding"] + ["parked"] * 299 + ["open"]


async def test_the_keeper_gets_through_more_keys_than_fit_a_page(
    database: Database,
    claims: Claims,
    worker: UUID,
    sql: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate, "_PAGE", 2)
    for key in "abcde":
        await put(database, 2, key=key)
    jobs = await claims.claim(worker, [], 10)
    await claims.finish(worker, [Ended(job.id, 1, JobState.SUCCEEDED) for job in jobs])
    keeper = GateKeeper(database.link("gates"), SystemClock())

    for _ in range(3):
        await keeper.step()

    assert gates(sql) == ["open"] * 5


async def test_a_claimed_job_whose_row_changes_before_its_admission_is_given_back(
    database: Database, claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    await put(database, 1)
    (job,) = await claims.claim(worker, [], 1)
    sql.execute("UPDATE pillars.jobs SET state = 'available', worker_id = NULL")

    assert await Gate(database.link("gate"), SystemClock()).admit(worker, [job]) == {}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "claim", "end", "fail", "give back", "lose", "keep"]),
        st.integers(0, 2),
    ),
    max_size=25,
)


@pytest.mark.parametrize("guarded", [True, False])
def test_whatever_happens_no_more_jobs_of_a_key_run_than_its_limit(
    dsn: Any, sql: psycopg.Connection[Any], guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not guarded:
        # Without admission, to see that the property can fail.
        monkeypatch.setattr(Claims, "_admitted", _everybody)

    @settings(
        max_examples=25 if guarded else 200,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=True,
    )
    @given(STEPS)
    def holds(steps: list[tuple[str, int]]) -> None:
        sql.execute("TRUNCATE pillars.jobs; DELETE FROM pillars.members")
        asyncio.run(_Story(dsn, sql).play(steps))

    if guarded:
        holds()
    else:
        with pytest.raises(AssertionError, match="too many"):
            holds()


async def _everybody(_: Claims, worker_id: UUID, jobs: list[Job]) -> list[Job]:
    assert worker_id
    return jobs


class _Story:
    """Three workers, two keys, and what befalls them."""

    LIMITS = (1, 2)

    def __init__(self, dsn: Any, sql: psycopg.Connection[Any]) -> None:
        from pillars.db.database import Database  # noqa: PLC0415 - a database of this loop's own

        self._database = Database(dsn, "story", lambda _: None)
        self._sql = sql
        self._workers = [new_member(sql) for _ in range(3)]
        self._held: list[list[Job]] = [[], [], []]
        self._claims = [Claims(self._database.link(f"w{n}"), SystemClock()) for n in range(3)]

    async def play(self, steps: list[tuple[str, int]]) -> None:
        try:
            for what, who in steps:
                await self._step(what, who)
                self._look()
            await self._all_get_through()
        finally:
            await self._database.close()

    async def _step(self, what: str, who: int) -> None:
        claims, worker, held = self._claims[who], self._workers[who], self._held[who]
        match what:
            case "put":
                limit = self.LIMITS[who % 2]
                await put(self._database, 2, key=f"k{who % 2}", limit=limit)
            case "claim":
                held += await claims.claim(worker, [], 3)
            case "end":
                await end(claims, worker, held)
                held.clear()
            case "fail":
                results = [Ended(job.id, job.attempt, JobState.FAILED, "", 0.0) for job in held]
                await claims.finish(worker, results)
                await claims.make_room(held)
                held.clear()
            case "give back":
                await claims.give_back(worker, held)
                await claims.make_room(held)
                held.clear()
            case "lose":
                async with self._database.transaction() as connection:
                    await rescue(connection, [worker])
                held.clear()
            case _:
                await GateKeeper(self._database.link("keeper"), SystemClock()).step()

    def _look(self) -> None:
        for key, running, limit in self._sql.execute(
            "SELECT concurrency_key, count(*), max(concurrency_limit) FROM pillars.jobs "
            "WHERE state = 'running' GROUP BY 1"
        ):
            assert running <= limit, f"too many of {key} run"

    async def _all_get_through(self) -> None:
        for who in range(3):
            await self._step("lose", who)
        for _ in range(200):
            await self._step("keep", 0)
            await self._step("claim", 0)
            await self._step("end", 0)
            ((left,),) = self._sql.execute(
                "SELECT count(*) FROM pillars.jobs WHERE finished_at IS NULL"
            ).fetchall()
            if not left:
                return
        raise AssertionError("some jobs never run")


async def test_however_many_keys_a_claim_meets_few_locks_are_held_at_a_time(
    database: Database, claims: Claims, worker: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "_KEYS_AT_ONCE", 3)
    held: list[int] = []
    decide = gate.fetch

    async def counting(connection: Any, statement: Any, params: Any) -> Any:
        rows = await decide(connection, statement, params)
        if statement.name == "admit":
            locks = await connection.execute(
                "SELECT count(*) FROM pg_locks "
                "WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
            )
            held.append((await locks.fetchone())[0])
        return rows

    monkeypatch.setattr(gate, "fetch", counting)
    for n in range(10):
        await put(database, 2, key=f"k{n}")

    jobs = await claims.claim(worker, [], 20)

    assert types(jobs) == ["t0"] * 10
    assert max(held) == 3


async def test_jobs_of_a_paused_queue_keep_no_other_queue_waiting_for_their_key(
    database: Database, claims: Claims, worker: UUID
) -> None:
    await put(database, 2, queue="b")
    await put(database, 1, queue="a", priority=1)
    await pause_queue(database, "b", paused=True)

    jobs = await claims.claim(worker, [], 10)

    assert [job.queue for job in jobs] == ["a"]


async def test_jobs_that_were_parked_when_their_queue_was_paused_keep_no_other_waiting(
    database: Database, claims: Claims, worker: UUID
) -> None:
    await put(database, 3, queue="b")
    first = await claims.claim(worker, [], 10)
    await put(database, 1, queue="a")
    assert await claims.claim(worker, [], 10) == []
    await pause_queue(database, "b", paused=True)

    await end(claims, worker, first)

    assert [job.queue for job in await claims.claim(worker, [], 10)] == ["a"]


async def test_once_its_queue_is_resumed_a_job_has_its_place_in_the_line_again(
    database: Database, claims: Claims, worker: UUID
) -> None:
    await put(database, 2, queue="b")
    await put(database, 2, queue="a", priority=1)
    await pause_queue(database, "b", paused=True)
    jobs = await claims.claim(worker, [], 10)
    await pause_queue(database, "b", paused=False)
    order = []
    while jobs:
        order += [job.queue for job in jobs]
        await end(claims, worker, jobs)
        jobs = await claims.claim(worker, [], 10)

    assert order == ["a", "b", "b", "a"]


async def test_jobs_of_a_queue_that_nobody_serves_keep_no_other_waiting_for_their_key(
    database: Database, claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    sql.execute("UPDATE pillars.members SET queues = '{a}'")
    await put(database, 2, queue="b")
    await put(database, 1, queue="a")

    jobs = await claims.claim(worker, ["a"], 10)

    assert [job.queue for job in jobs] == ["a"]


async def test_a_queue_that_another_worker_serves_has_its_place_in_the_line(
    database: Database, claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    sql.execute("UPDATE pillars.members SET queues = '{a}'")
    other = new_member(sql)
    await put(database, 2, queue="b")
    await put(database, 1, queue="a")

    assert await claims.claim(worker, ["a"], 10) == []
    assert [job.queue for job in await claims.claim(other, ["b"], 10)] == ["b"]


async def test_the_keeper_opens_a_job_once_its_queue_is_resumed(
    database: Database, claims: Claims, worker: UUID, sql: psycopg.Connection[Any]
) -> None:
    await put(database, 2, queue="b")
    first = await claims.claim(worker, [], 10)
    await pause_queue(database, "b", paused=True)
    await end(claims, worker, first)
    keeper = GateKeeper(database.link("keeper"), SystemClock())
    await keeper.step()
    assert gates(sql) == ["parked"]
    await pause_queue(database, "b", paused=False)

    await keeper.step()

    assert gates(sql) == ["open"]
