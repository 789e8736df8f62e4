"""What the property tests of schedules share: acts, and guards that are taken away."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from pillars.cron import firing, life

if TYPE_CHECKING:
    import pytest

    from pillars.db.statements import Statement
    from tests.cron.world import Act

# Of the fire statement and of the backfill's: a tick that is a job already is left alone.
UNIQUE_KEY: Final = r"ON CONFLICT \(schedule_id, fire_at\).*?(?=RETURNING)"
_FENCES: Final = (
    r" AND version = plan.version AND enabled",
    r"\s+AND schedules.version = .*?enabled",
)


def act(name: str, *values: st.SearchStrategy[Any]) -> st.SearchStrategy[Act]:
    """Return acts of one kind."""
    return st.tuples(st.just(name), *values)


def without(statement: Statement, *patterns: str) -> Statement:
    """Return a statement that lacks all that the patterns, each of which must be there, match."""
    sql: Any = statement.sql
    for pattern in patterns:
        sql, found = re.subn(pattern, "", sql, flags=re.DOTALL)
        assert found
    return replace(statement, sql=sql)


def no_version(patch: pytest.MonkeyPatch, *_: object) -> None:
    """Let plans fire whatever became of the schedule since."""
    patch.setattr(firing, "FIRE", without(firing.FIRE, *_FENCES))


def resume_catches_up(patch: pytest.MonkeyPatch, *_: object) -> None:
    """Let a schedule go on from a minute before."""
    true = life.next_fire
    patch.setattr(life, "next_fire", lambda timing, after: true(timing, after - 60))
