from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pillars.db.database import Database
from pillars.ground.events import Events, PassCompleted, ProcessStopping
from pillars.ground.settings import Secret
from pillars.telemetry.health import DATABASE_CACHE, Check, DatabaseCheck, Health, age_check
from tests.helpers import PATIENCE, FakeClock

if TYPE_CHECKING:
    from pillars.telemetry.health import Readiness

LEASE = 5.0
GONE = Secret("postgresql://me:hunter2@127.0.0.1:1/none")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is there is given all the time it takes to answer."""
    monkeypatch.setattr("pillars.telemetry.health.DATABASE_TIMEOUT", PATIENCE)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def emit() -> Events:
    return Events()


@pytest.fixture
def health(emit: Events, clock: FakeClock) -> Health:
    return Health(emit, clock)


def failing(readiness: Readiness) -> list[str]:
    return [name for name, check in readiness.checks.items() if not check.ok]


async def test_a_process_without_probes_is_ready(health: Health) -> None:
    assert (await health.readiness()).ok


async def test_an_age_has_a_limit(clock: FakeClock) -> None:
    check = age_check("claim", 5.0, clock)
    before = check()
    check.touch()
    clock.advance(5)
    within = check()
    clock.advance(1)

    assert before == Check(ok=False, reason="no claim yet")
    assert within == Check(ok=True, seconds=5.0)
    assert check() == Check(
        ok=False,
        reason="the last claim was 6.0s ago, more than 5s",
        seconds=6.0,
    )


async def test_a_cron_is_ready_while_it_completes_passes(
    emit: Events,
    clock: FakeClock,
    database: Database,
    health: Health,
) -> None:
    health.expect_cron(LEASE, database.link("health"))
    at_start = await health.readiness()
    emit(PassCompleted(0.01, overdue=0))
    after_a_pass = await health.readiness()
    clock.advance(LEASE + 1)

    assert failing(at_start) == ["pass"]
    assert after_a_pass.ok
    assert failing(await health.readiness()) == ["pass"]


async def test_a_cron_that_stays_behind_for_a_lease_is_not_ready(
    emit: Events,
    clock: FakeClock,
    database: Database,
    health: Health,
) -> None:
    health.expect_cron(LEASE, database.link("health"))
    found = []
    for overdue in (3, 2, 1, 0):
        emit(PassCompleted(0.01, overdue))
        found.append(failing(await health.readiness()))
        clock.advance(3)

    assert found == [[], [], ["overdue"], []]


async def test_a_worker_is_ready_while_it_asks_for_jobs(
    clock: FakeClock,
    database: Database,
    health: Health,
) -> None:
    health.expect_worker(LEASE, database.link("health"))
    health.progress("claim")
    health.progress("something nobody checks")
    after_a_claim = await health.readiness()
    clock.advance(LEASE + 1)

    assert after_a_claim.ok
    assert failing(await health.readiness()) == ["claim"]


async def test_a_stop_asked_for_ends_readiness_at_once(
    emit: Events,
    database: Database,
    health: Health,
) -> None:
    health.expect_server(database.link("health"))
    before = await health.readiness()
    emit(ProcessStopping("server", "a", "SIGTERM"))
    after = await health.readiness()

    assert before.ok
    assert (after.ok, after.checks) == (
        False,
        {"running": Check(ok=False, reason="stopping: SIGTERM")},
    )


async def test_a_database_out_of_reach_is_named_without_its_address(clock: FakeClock) -> None:
    database = Database(GONE, "test", lambda _: None)

    check = await DatabaseCheck(database.link("health"), clock)()

    assert check == Check(ok=False, reason="cannot be reached (OperationalError)")


async def test_the_database_is_asked_once_a_second_however_many_ask(
    database: Database,
    clock: FakeClock,
) -> None:
    check = DatabaseCheck(database.link("health"), clock)
    first = await check()
    again = await check()
    clock.advance(DATABASE_CACHE)
    later = await check()

    assert again is first
    assert later is not first
    assert later.ok


async def test_a_probe_that_raises_is_a_failed_check(health: Health) -> None:
    def broken() -> Check:
        raise KeyError("hunter2")

    health.add("broken", broken)

    readiness = await health.readiness()

    assert readiness.checks["broken"] == Check(ok=False, reason="the check failed (KeyError)")
