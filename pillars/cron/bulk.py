"""Very many schedules of a few patterns, for a load test: as real as any, and quickly made.

All that `edits` works out for a schedule is worked out once for each pattern; only name and slot
are a row's own. Their fingerprint is the pattern's, so one that is put again by its definition
counts as changed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pillars.cluster.ring import slot_of
from pillars.cron.definition import Timing
from pillars.cron.edits import row_of
from pillars.cron.fires import next_fire
from pillars.cron.statements import SQL
from pillars.db.arrays import int_array, text_array

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pillars.cron.definition import Schedule
    from pillars.db.database import Link

CHUNK = 20_000


class Patterns:
    """What all schedules of a pattern have in common, ready for the database."""

    def __init__(self, schedules: Sequence[Schedule], after: datetime) -> None:
        """Work it out.

        Args:
            schedules: one of each pattern; its name stands for those of all.
            after: an instant of whole seconds; first ticks are the first after it.
        """
        self._rows = [
            json.dumps({"number": number, **row_of(schedule, None, ("api", None), after)})
            for number, schedule in enumerate(schedules)
        ]

    async def add(self, link: Link, names: Sequence[str], like: Sequence[int]) -> None:
        """Add schedules that nobody has, a CHUNK at most; `like` are the numbers of patterns."""
        params = {
            "names": text_array(names),
            "slots": int_array(map(slot_of, names)),
            "like": int_array(like),
            "patterns": f"[{','.join(self._rows[number] for number in sorted(set(like)))}]",
        }
        await link.fetch(SQL["add_many"], params)


async def aim_after(link: Link, queue: str, at: datetime) -> int:
    """Let schedules of a queue that would fire at or before `at` begin after it, a CHUNK at most.

    Only for schedules that nobody fires yet. Returns how many there were.
    """
    params = {"queue": queue, "at": at, "limit": CHUNK}
    rows = await link.fetch(SQL["aimed_before"], params)
    if rows:
        ids, timings = zip(*rows, strict=True)
        cursors = [next_fire(Timing.decode(timing), int(at.timestamp())) for timing in timings]
        await link.fetch(SQL["aim"], {"ids": int_array(ids), "next": int_array(cursors)})
    return len(rows)


async def remove_many(link: Link, queue: str) -> bool:
    """Delete schedules of a queue, a CHUNK at most; returns whether there may be more."""
    return bool(await link.fetch(SQL["remove_many"], {"queue": queue, "limit": CHUNK}))
