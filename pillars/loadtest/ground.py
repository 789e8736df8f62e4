"""The database of a load test: one of its own, so that nobody's data is ever in question.

- Without a URL a PostgreSQL is started in a temporary directory (TMPDIR says where), with the
  settings of `pillars up`.
- A URL lends its server: a database is created beside the one that is named, and dropped
  afterwards. What the user's schema holds is not read; its crons and workers take no part. Only
  a load test that is killed outright leaves that database, `pillars_loadtest_...`, behind.
- A user who may not create databases is refused, with what can be done about it.
- `--in-place` is the user's word that the named database itself may be used, whatever it holds: a
  real installation is measured together with its own crons and workers. Schedules and jobs of the
  run then have a queue of their own; only those are removed afterwards, and only those do our
  workers run. But our crons are members like others: they fire the user's schedules, too.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pillars.db.connection import describe_dsn
from pillars.db.scratch import ScratchRefusedError, scratch_database, temporary_postgres
from pillars.ground.errors import PillarsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pillars.ground.settings import Secret

# Bytes of a schedule and of a job on the disk with their indexes and WAL, generously.
_SCHEDULE, _JOB, _BESIDES = 1_500, 800, 500_000_000


class RefusedError(PillarsError):
    """The load test would have to run where a user's data may be."""


class NoRoomError(PillarsError):
    """The disk is too small for what was asked for."""


@asynccontextmanager
async def ground(named: Secret | None, *, in_place: bool) -> AsyncIterator[Secret]:
    """The URL of the database to run in; what was made for the run goes away afterwards.

    Raises:
        EmbeddedError: the embedded PostgreSQL does not start.
        RefusedError: this user may not create a database on the server that is named.
    """
    if named is None:
        with temporary_postgres("pillars-loadtest-") as server:
            yield server
    elif in_place:
        yield named
    else:
        async with _beside(named) as database:
            yield database


def check_room(schedules: int, ticks: float) -> None:
    """See that the disk of temporary directories is large enough for an embedded database.

    Raises:
        NoRoomError: it is not.
    """
    needed = schedules * _SCHEDULE + ticks * _JOB + _BESIDES
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < needed:
        raise NoRoomError(
            f"{tempfile.gettempdir()} has {free / 1e9:.1f} GB free, and this run may need "
            f"{needed / 1e9:.1f}: name another directory with TMPDIR, or ask for less"
        )


@asynccontextmanager
async def _beside(named: Secret) -> AsyncIterator[Secret]:
    try:
        async with scratch_database(named, "pillars_loadtest") as database:
            yield database
    except ScratchRefusedError:
        raise RefusedError(
            "this user may not create a database on the server, and in "
            f"{describe_dsn(named)} there may be somebody's data: let the user create databases "
            "(ALTER ROLE ... CREATEDB), leave --database-url out for a PostgreSQL of its own, or "
            "say --in-place to use that very database"
        ) from None
