"""Notifications of the own connection: few, and none lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pillars.db import notify
from pillars.db.notify import Notices

if TYPE_CHECKING:
    import psycopg

    from pillars.db.database import Database

CHANNEL = "pillars_test"


@pytest.fixture
def ear(sql: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """A connection that listens."""
    sql.execute(f"LISTEN {CHANNEL}")
    return sql


@pytest.fixture
def notices(database: Database) -> Notices:
    return Notices(database, CHANNEL)


@pytest.fixture
def long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause is not over before the test is."""
    monkeypatch.setattr(notify, "_PAUSE", 3600.0)


def heard(ear: psycopg.Connection[Any]) -> int:
    """How many notifications had been sent by now."""
    ear.execute("SELECT")
    return len(list(ear.notifies(timeout=0)))


@pytest.mark.usefixtures("long_pause")
async def test_only_the_first_statement_carries_the_notification(notices: Notices) -> None:
    assert notices.carry() is not None
    assert notices.carry() is None


async def test_one_that_is_owed_is_sent_when_the_pause_is_over(
    notices: Notices, ear: psycopg.Connection[Any]
) -> None:
    notices.carry()
    notices.owe()

    assert len(await asyncio.to_thread(list, ear.notifies(timeout=30, stop_after=1))) == 1
    await notices.close()


@pytest.mark.usefixtures("long_pause")
async def test_many_that_are_owed_are_one_and_sent_at_the_close_at_the_latest(
    notices: Notices, ear: psycopg.Connection[Any]
) -> None:
    notices.carry()
    for _ in range(5):
        notices.owe()

    await notices.close()

    assert heard(ear) == 1


@pytest.mark.usefixtures("long_pause")
async def test_a_statement_pays_for_those_that_were_committed_before_it_began(
    notices: Notices, ear: psycopg.Connection[Any]
) -> None:
    notices.owe()
    carried = notices.carry()
    assert carried is not None
    notices.pay(carried)

    await notices.close()

    assert heard(ear) == 0


@pytest.mark.usefixtures("long_pause")
async def test_a_statement_does_not_pay_for_one_that_was_committed_meanwhile(
    notices: Notices, ear: psycopg.Connection[Any]
) -> None:
    carried = notices.carry()
    assert carried is not None
    notices.owe()
    notices.pay(carried)

    await notices.close()

    assert heard(ear) == 1


async def test_one_that_cannot_be_sent_harms_nobody(
    notices: Notices, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "connection", _away)
    notices.owe()

    await notices.close()


def _away() -> Any:
    raise TimeoutError


async def test_while_a_statement_that_carries_one_is_under_way_none_is_sent_alone(
    notices: Notices, ear: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "_PAUSE", 0.0)
    monkeypatch.setattr(notify, "_PATIENCE", 3600.0)
    under_way: list[int] = []

    async def a_statement_begins_and_ends_later(_: float) -> None:
        if under_way:
            notices.pay(under_way.pop())
        elif (carried := notices.carry()) is not None:
            under_way.append(carried)

    monkeypatch.setattr(notify.asyncio, "sleep", a_statement_begins_and_ends_later)
    notices.carry()
    notices.owe()

    await notices._send()

    assert under_way == []
    assert heard(ear) == 0
