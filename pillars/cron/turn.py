"""One turn of a reconciler: read a set of schedules, decide what is to be done with it, do it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pillars.cluster.members import hold_set, holders
from pillars.cron.book import ScheduleConflictError, reconcile
from pillars.cron.changes import try_lock_book
from pillars.cron.code import load_set, texts_of_set
from pillars.cron.progress import nobody
from pillars.cron.statements import SQL
from pillars.cron.texts import ScheduleFilesError, signature_of
from pillars.db.connection import fetch
from pillars.db.database import Database
from pillars.ground.errors import PillarsError
from pillars.ground.events import SchedulesApplied, SchedulesRefused, SchedulesWaiting
from pillars.ground.events import nobody as no_listener

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from psycopg import AsyncConnection

    from pillars.cron.files import ScheduleSet
    from pillars.cron.progress import Told
    from pillars.cron.texts import Signature
    from pillars.db.database import Link
    from pillars.ground.events import Event
    from pillars.ground.settings import Secret


class Verdict(StrEnum):
    """What is to be done with a set of files."""

    IN_FORCE = "in force"
    APPLY = "apply"
    WAIT = "wait"
    REFUSE = "refuse"
    STALE = "stale"


class HalfASetError(PillarsError):
    """A set of schedules does not speak of all that are in force."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a replica knows when it looks at its files.

    Attributes:
        directory, code: the set; `code` None where no application is known.
        signature: of the directory, before it was read.
        revision: PILLARS_SCHEDULES_REVISION.
        applied_by: name of the process.
        member_id: its id; the other crons are asked what they hold.
        lease: seconds for which what came into force counts as held.
        started: whether it has had a set in force before.
    """

    directory: Path
    signature: Signature
    code: ScheduleSet | None
    revision: int | None
    applied_by: str
    member_id: UUID | None
    lease: float
    started: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a turn; `digest` is that of the set, if it could be read."""

    verdict: Verdict
    digest: str | None = None
    warnings: tuple[str, ...] = ()
    event: Event | None = None

    @property
    def in_force(self) -> bool:
        """Whether the set is in force now."""
        settled = self.verdict in (Verdict.APPLY, Verdict.IN_FORCE)
        return settled and not isinstance(self.event, SchedulesRefused)


async def take_turn(link: Link, turn: Turn) -> Outcome:
    """Read the set and apply it if it is its turn."""
    try:
        found = await asyncio.to_thread(load_set, turn.directory, turn.code)
    except ScheduleFilesError as error:
        return _refused(turn, *map(str, error.faults))
    if not found.files and found.code is None:
        return _refused(
            turn,
            f"{turn.directory} holds no .yaml file: the schedules in the database stay in force",
        )
    verdict, event = Verdict.WAIT, None
    async with link.transaction() as connection:
        # Whoever holds the book may be writing a million schedules.
        if await try_lock_book(connection):
            # From here on nobody applies anything: what is still so is the latest there is.
            if await asyncio.to_thread(signature_of, turn.directory) != turn.signature:
                return Outcome(Verdict.STALE)
            verdict, event = await _bring_into_force(connection, turn, found)
    return Outcome(verdict, found.digest, tuple(map(str, found.lints)), event)


def take_turn_alone(dsn: Secret, turn: Turn) -> Outcome:
    """Do the same in a process that does nothing else."""

    async def take() -> Outcome:
        database = Database(dsn, f"pillars {turn.applied_by}", no_listener)
        try:
            return await take_turn(database.link("files"), turn)
        finally:
            await database.close()

    return asyncio.run(take())


async def in_force(link: Link, turn: Turn) -> str | None:
    """Return the digest of the set in force if it was read from the very same texts."""
    texts = await asyncio.to_thread(texts_of_set, turn.directory, turn.code)
    rows = await link.fetch(SQL["current_set"])
    if not rows or texts is None:
        return None
    current = _Current(*rows[0])
    return current.digest if current.texts == texts else None


async def waits_still(link: Link, turn: Turn, digest: str) -> bool:
    """Tell whether a set of files that had to wait has to wait still, without reading it."""
    async with link.transaction() as connection:
        if not await try_lock_book(connection):
            return True
        current = await _current(connection)
        if await _judge(connection, turn, digest, current) is Verdict.WAIT:
            return True
        ((_, in_code),) = await fetch(connection, SQL["sources_in_force"])
        return bool(in_code) and turn.code is None


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
            "texts": found.texts,
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


@dataclass(frozen=True, slots=True)
class _Current:
    """The set in force; `age` in seconds."""

    sequence: int
    digest: str
    texts: str
    revision: int | None
    age: float


def _refused(turn: Turn, *faults: str) -> Outcome:
    return Outcome(Verdict.REFUSE, event=SchedulesRefused(str(turn.directory), faults))


async def _bring_into_force(
    connection: AsyncConnection[Any], turn: Turn, found: ScheduleSet
) -> tuple[Verdict, Event | None]:
    """Apply a set if it is its turn; otherwise say why not."""
    current = await _current(connection)
    verdict = await _judge(connection, turn, found.digest, current)
    if verdict is Verdict.WAIT and current is not None:
        others = await holders(connection, current.digest, turn.member_id)
        return verdict, SchedulesWaiting(found.digest, current.digest, others)
    if verdict is not Verdict.APPLY:
        return verdict, None
    try:
        event = await apply_set(connection, found, turn.revision, turn.applied_by)
    except ScheduleConflictError as error:
        return verdict, _refused(turn, *str(error).splitlines()).event
    except HalfASetError as error:
        # What is in force may change, and then it is whole.
        return Verdict.WAIT, _refused(turn, str(error)).event
    # The next heartbeat would say so, and there may be none for long.
    await hold_set(connection, found.digest, turn.member_id)
    return verdict, event


async def _current(connection: AsyncConnection[Any]) -> _Current | None:
    rows = await fetch(connection, SQL["current_set"])
    return _Current(*rows[0]) if rows else None


async def _judge(
    connection: AsyncConnection[Any],
    turn: Turn,
    digest: str,
    current: _Current | None,
) -> Verdict:
    if current is None:
        return Verdict.APPLY
    if current.digest == digest:
        return Verdict.IN_FORCE
    ordered = turn.revision is not None and current.revision is not None
    if ordered and turn.revision != current.revision:
        newer = (turn.revision or 0) > (current.revision or 0)
        return Verdict.APPLY if newer else Verdict.WAIT
    if turn.started:
        return Verdict.APPLY
    ((superseded,),) = await fetch(connection, SQL["was_in_force"], {"digest": digest})
    if not superseded:
        return Verdict.APPLY
    # Who finds it in force says so with the next heartbeat only.
    held = current.age < turn.lease or await holders(connection, current.digest, turn.member_id)
    return Verdict.WAIT if held else Verdict.APPLY
