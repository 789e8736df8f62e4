"""Keeps the schedule book equal to a directory of files and an application's schedules in code.

Both are one set with one digest. A set is applied whole, in one transaction that also
records its digest; replicas that hold the same files find the digest in force and do nothing.

- A running replica that sees its files change applies them.
- A replica that starts with files that were superseded waits while any live cron holds the newer
  ones, so an old replica that restarts during a roll-out rolls nothing back; when none is left it
  applies them, so a full roll-back works.
- PILLARS_SCHEDULES_REVISION, where set, orders the sets outright.
- A directory that is empty, missing or faulty changes nothing. Only where no file was ever applied
  may the set be that of the code alone.
- A replica without the application applies nothing while schedules in code are in force: it knows
  half of the set. So crons with and without it never undo each other's work.

Changes are found by looking at names, sizes and times, not by inotify: it works the same on network
file systems and on Kubernetes' swapped links, and costs a millisecond.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pillars.cluster.members import holders
from pillars.cron.book import ScheduleConflictError, nobody, reconcile
from pillars.cron.changes import lock_book, try_lock_book
from pillars.cron.code import load_set
from pillars.cron.files import ScheduleFilesError
from pillars.cron.statements import SQL
from pillars.db.connection import fetch
from pillars.ground.errors import PillarsError
from pillars.ground.events import (
    SchedulesApplied,
    SchedulesRefused,
    SchedulesWaiting,
    SchedulesWarned,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    from psycopg import AsyncConnection

    from pillars.cron.book import Told
    from pillars.cron.files import FileFault, ScheduleSet
    from pillars.db.database import Database, Link
    from pillars.ground.events import Emit, Event

LOOK_EVERY = 0.5
WAIT_EVERY = 2.0

Signature = tuple[tuple[str, int, int], ...]


class Verdict(StrEnum):
    """What is to be done with a set of files."""

    IN_FORCE = "in force"
    APPLY = "apply"
    WAIT = "wait"


class HalfASetError(PillarsError):
    """A set of schedules does not speak of all that are in force."""


class Reconciler:
    """Watches one directory for one cron process."""

    def __init__(
        self,
        link: Link,
        directory: Path,
        code: ScheduleSet | None = None,
        *,
        revision: int | None,
        applied_by: str,
        member_id: Callable[[], UUID | None],
        lease: float,
        holds: Callable[[str], None],
        emit: Emit,
    ) -> None:
        """Set up the watch.

        Args:
            link: a connection of its own.
            directory: the files.
            code: the application's schedules; None where no application is known.
            revision: PILLARS_SCHEDULES_REVISION.
            applied_by: name of this process, recorded with the set.
            member_id: this process's id; the other live crons are asked what they hold.
            lease: seconds of silence after which a cron does not count as live.
            holds: called with the digest this process holds once it is in force.
            emit: receives SchedulesApplied, SchedulesRefused, SchedulesWarned, SchedulesWaiting.
        """
        self._link = link
        self._directory = directory
        self._code = code
        self._revision = revision
        self._applied_by = applied_by
        self._member_id = member_id
        self._lease = lease
        self._holds = holds
        self._emit = emit
        self._settled: Signature | None = None
        self._last: Signature | None = None
        self._started = False
        self._warned: tuple[FileFault, ...] = ()
        self._told_waiting = False

    async def step(self) -> float:
        """Look at the directory and apply what changed; returns the seconds until the next look."""
        signature = await asyncio.to_thread(_signature, self._directory)
        if signature == self._settled:
            return LOOK_EVERY
        before, self._last = self._last, signature
        if before is not None and signature != before:
            # Someone may still be writing: act once two looks agree.
            return LOOK_EVERY
        found = await self._load()
        if found is None:
            self._settled = signature
            return LOOK_EVERY
        if not await self._bring_into_force(found):
            return WAIT_EVERY
        # Only now: files that were missing or faulty until here may be an old replica's.
        self._settled, self._started, self._told_waiting = signature, True, False
        return LOOK_EVERY

    async def _load(self) -> ScheduleSet | None:
        try:
            found = await asyncio.to_thread(load_set, self._directory, self._code)
        except ScheduleFilesError as error:
            self._emit(SchedulesRefused(str(self._directory), tuple(map(str, error.faults))))
            return None
        if not found.files and found.code is None:
            fault = (
                f"{self._directory} holds no .yaml file: "
                "the schedules in the database stay in force"
            )
            self._emit(SchedulesRefused(str(self._directory), (fault,)))
            return None
        if found.lints != self._warned:
            self._warned = found.lints
            if found.lints:
                self._emit(SchedulesWarned(tuple(map(str, found.lints))))
        return found

    async def _bring_into_force(self, found: ScheduleSet) -> bool:
        """Apply a set if it is its turn; False when it has to wait."""
        event: Event | None = None
        async with self._link.transaction() as connection:
            if not await try_lock_book(connection):
                # Somebody may be writing a million of them.
                return False
            current = await _current(connection)
            verdict = await self._judge(connection, found, current)
            if verdict is Verdict.APPLY:
                try:
                    event = await apply_set(connection, found, self._revision, self._applied_by)
                except ScheduleConflictError as error:
                    event = SchedulesRefused(str(self._directory), tuple(str(error).splitlines()))
                except HalfASetError as error:
                    # What is in force may change, and then it is whole.
                    verdict = Verdict.WAIT
                    if not self._told_waiting:
                        self._told_waiting = True
                        event = SchedulesRefused(str(self._directory), (str(error),))
            elif verdict is Verdict.WAIT and current is not None and not self._told_waiting:
                self._told_waiting = True
                holders = await self._holders(connection, current.digest)
                event = SchedulesWaiting(found.digest, current.digest, holders)
        if event is not None:
            self._emit(event)
        if verdict is Verdict.WAIT:
            return False
        if not isinstance(event, SchedulesRefused):
            self._holds(found.digest)
        return True

    async def _judge(
        self,
        connection: AsyncConnection[Any],
        found: ScheduleSet,
        current: _Current | None,
    ) -> Verdict:
        if current is None:
            return Verdict.APPLY
        if current.digest == found.digest:
            return Verdict.IN_FORCE
        ordered = self._revision is not None and current.revision is not None
        if ordered and self._revision != current.revision:
            newer = (self._revision or 0) > (current.revision or 0)
            return Verdict.APPLY if newer else Verdict.WAIT
        if self._started:
            return Verdict.APPLY
        ((superseded,),) = await fetch(connection, SQL["was_in_force"], {"digest": found.digest})
        if superseded and await self._holders(connection, current.digest):
            return Verdict.WAIT
        return Verdict.APPLY

    async def _holders(self, connection: AsyncConnection[Any], digest: str) -> int:
        return await holders(connection, digest, self._member_id(), self._lease)


async def apply_set(
    connection: AsyncConnection[Any],
    found: ScheduleSet,
    revision: int | None,
    applied_by: str,
    told: Told = nobody,
) -> SchedulesApplied:
    """Reconcile the book with a set and record it; the event is to be emitted after the commit.

    `told` hears how far it is.

    Raises:
        ScheduleConflictError: names that belong to another source.
        HalfASetError: there is more in force than this set speaks of.
    """
    await refuse_half_a_set(connection, found)
    difference = await reconcile(connection, found.schedules, found.origins, found.code, told=told)
    ((sequence,),) = await fetch(
        connection,
        SQL["add_set"],
        {
            "digest": found.digest,
            "revision": revision,
            "schedules": len(found.schedules),
            "applied_by": applied_by,
        },
    )
    return SchedulesApplied(
        sequence=sequence,
        digest=found.digest,
        added=len(difference.added),
        changed=len(difference.changed),
        removed=len(difference.removed),
        total=len(found.schedules),
        names=(*difference.added, *difference.changed, *difference.removed)[:10],
    )


async def refuse_half_a_set(connection: AsyncConnection[Any], found: ScheduleSet) -> None:
    """Let a set pass that speaks of files and of code, where schedules of both are in force.

    Raises:
        HalfASetError: it does not.
    """
    ((in_files, in_code),) = await fetch(connection, SQL["sources_in_force"])
    if in_code and found.code is None:
        raise HalfASetError(
            "schedules in code are in force, and no application is given: give it with --app or "
            "PILLARS_APP; those of an application that is gone go with `pillars schedules remove`",
        )
    if not found.files and (in_files or not (in_code or found.schedules)):
        raise HalfASetError(
            "there is no .yaml file: the schedules in the database stay in force; to mean that "
            "there are none in files, put in a file with `schedules: []`",
        )


async def apply_now(
    database: Database,
    found: ScheduleSet,
    revision: int | None,
    applied_by: str,
    told: Told = nobody,
) -> SchedulesApplied:
    """Put a set into force whatever is in force now; `told` hears how far it is.

    Raises:
        ScheduleConflictError: names that belong to another source.
        HalfASetError: there is more in force than this set speaks of.
    """
    async with database.transaction() as connection:
        await lock_book(connection)
        return await apply_set(connection, found, revision, applied_by, told)


@dataclass(frozen=True, slots=True)
class _Current:
    """The set in force."""

    sequence: int
    digest: str
    revision: int | None


async def _current(connection: AsyncConnection[Any]) -> _Current | None:
    rows = await fetch(connection, SQL["current_set"])
    return _Current(*rows[0]) if rows else None


def _signature(directory: Path) -> Signature:
    try:
        files = sorted(directory.iterdir())
        return tuple(
            (file.name, status.st_mtime_ns, status.st_size)
            for file in files
            if file.suffix in (".yaml", ".yml")
            for status in (file.stat(),)
        )
    except OSError:
        # Missing, unreadable, or a file vanished under us: loading says what is wrong.
        return (("", 0, 0),)
