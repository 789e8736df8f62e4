from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pillars.queue.claims import Claims
from tests.helpers import FakeClock, new_member

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    from pillars.db.database import Database


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def claims(database: Database, clock: FakeClock) -> Claims:
    return Claims(database.link("claims"), clock)


@pytest.fixture
def worker(sql: psycopg.Connection[Any]) -> UUID:
    return new_member(sql)
