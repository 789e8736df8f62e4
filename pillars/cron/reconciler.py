"""Keeps the schedule book equal to a directory of files and an application's schedules in code.

Both are one set with one digest. A set is applied whole, in one transaction that also
records its digest; replicas that hold the same files find the digest in force and do nothing.

- A running replica that sees its files change applies them, if they still are as it read them: one
  that was stopped in between, or is slow, must not undo what others have applied since.
- A replica that starts with files that were superseded waits while any cron holds the newer ones
  that was not expelled, so an old replica that restarts during a roll-out rolls nothing back, nor
  one that is the first to move after an outage; when none is left it applies them, so a full
  roll-back works. What came into force within a lease counts as held. The latest 10,000 sets are
  on record: one from before them counts as new.
- PILLARS_SCHEDULES_REVISION, where set, orders the sets outright.
- A directory that is empty, missing or faulty changes nothing. Only where no schedule of a file is
  in force may the set be that of the code alone.
- A replica without the application applies nothing while schedules in code are in force: it knows
  half of the set. So crons with and without it never undo each other's work.
- A database that forgot a set, as a standby does that is promoted without the last moments, is told
  again by whoever saw it in force.

Changes are found by looking at names, sizes and times, not by inotify: it works the same on network
file systems and on Kubernetes' swapped links, and costs a millisecond.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pillars.cron.changes import lock_book
from pillars.cron.elsewhere import call_elsewhere
from pillars.cron.progress import nobody
from pillars.cron.statements import SQL
from pillars.cron.texts import signature_of
from pillars.cron.turn import (
    Outcome,
    Turn,
    Verdict,
    apply_set,
    in_force,
    take_turn,
    take_turn_alone,
    waits_still,
)
from pillars.ground.events import SchedulesWarned

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    from pillars.cron.files import ScheduleSet
    from pillars.cron.progress import Told
    from pillars.cron.texts import Signature
    from pillars.db.database import Database, Link
    from pillars.ground.events import Emit, SchedulesApplied

LOOK_EVERY = 0.5
WAIT_EVERY = 2.0
# So many looks at files that are as they were, then one at what the database knows of them.
LOOKS = 10
# Files of more bytes, some ten thousand schedules, are read in a process of their own.
LARGE = 1 << 20


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
            member_id: this process's id; the other crons are asked what they hold.
            lease: seconds for which what came into force counts as held.
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
        self._digest: str | None = None
        self._sequence = 0
        self._looks = 0
        self._warned: tuple[str, ...] = ()
        self._told_waiting = False
        # A large set that had to wait: its signature and its digest.
        self._waiting: tuple[Signature, str] | None = None

    async def step(self) -> float:
        """Look at the directory and apply what changed; returns the seconds until the next look."""
        signature = await asyncio.to_thread(signature_of, self._directory)
        if signature == self._settled and not await self._is_forgotten():
            return LOOK_EVERY
        before, self._last = self._last, signature
        if before is not None and signature != before:
            # Someone may still be writing: act once two looks agree.
            return LOOK_EVERY
        outcome = await self._take_turn(signature)
        self._tell(outcome)
        if outcome.verdict is Verdict.STALE:
            return LOOK_EVERY
        if outcome.verdict is Verdict.WAIT:
            return WAIT_EVERY
        if outcome.in_force:
            # Only now: files that were missing or faulty until here may be an old replica's.
            self._started, self._told_waiting = True, False
        self._digest = outcome.digest
        self._sequence, _ = await self._on_record()
        self._settled = signature
        return LOOK_EVERY

    async def _is_forgotten(self) -> bool:
        """Tell, now and then, whether the set that was seen in force is on record no more."""
        self._looks += 1
        if self._looks % LOOKS:
            return False
        sequence, oldest = await self._on_record()
        # What came into force before the oldest on record was deleted with the records of its time.
        if sequence >= self._sequence or self._sequence < oldest:
            return False
        self._settled = None
        return True

    async def _on_record(self) -> tuple[int, int]:
        if self._digest is None:
            return 0, 0
        ((sequence, oldest),) = await self._link.fetch(
            SQL["set_on_record"], {"digest": self._digest}
        )
        return sequence, oldest

    async def _take_turn(self, signature: Signature) -> Outcome:
        turn = Turn(
            self._directory,
            signature,
            self._code,
            self._revision,
            self._applied_by,
            self._member_id(),
            self._lease,
            self._started,
        )
        if sum(size for _, _, size in signature) < LARGE:
            return await take_turn(self._link, turn)
        digest = await in_force(self._link, turn)
        if digest is not None:
            return Outcome(Verdict.IN_FORCE, digest)
        known, digest = self._waiting or (None, "")
        if known == signature and await waits_still(self._link, turn, digest):
            return Outcome(Verdict.WAIT, digest, self._warned)
        outcome = await call_elsewhere(take_turn_alone, self._link.dsn, turn)
        if outcome.verdict is Verdict.WAIT and outcome.digest is not None:
            self._waiting = signature, outcome.digest
        return outcome

    def _tell(self, outcome: Outcome) -> None:
        """Pass on what is news."""
        if outcome.verdict is not Verdict.REFUSE and outcome.warnings != self._warned:
            self._warned = outcome.warnings
            if outcome.warnings:
                self._emit(SchedulesWarned(outcome.warnings))
        waiting = outcome.verdict is Verdict.WAIT
        if outcome.event is not None and not (waiting and self._told_waiting):
            self._emit(outcome.event)
            self._told_waiting = waiting
        if outcome.in_force and outcome.digest is not None:
            self._holds(outcome.digest)


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
