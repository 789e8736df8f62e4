"""A turn in a process of its own, for large sets.

A million schedules take minutes of computing and a gigabyte of memory to read, and a cron that
fires has neither to give. The process is asked on stdin and answers on stdout.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from typing import TYPE_CHECKING

from pillars.cron.turn import Outcome, Turn, take_turn
from pillars.db.database import Database
from pillars.ground.events import nobody

if TYPE_CHECKING:
    from pillars.ground.settings import Secret


async def take_turn_elsewhere(dsn: Secret, turn: Turn) -> Outcome:
    """Do what `take_turn` does in a process that does not outlive this call.

    Raises:
        RuntimeError: it ended without an answer.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pillars.cron.elsewhere"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # A Ctrl-C in the terminal is its parent's to hear.
        start_new_session=True,
    )
    try:
        answer, _ = await process.communicate(pickle.dumps((dsn, turn)))
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise RuntimeError(f"the process that reads schedules ended with {process.returncode}")
    outcome: Outcome = pickle.loads(answer)  # noqa: S301 - of our own program
    return outcome


async def _take_turn(dsn: Secret, turn: Turn) -> Outcome:
    database = Database(dsn, f"pillars {turn.applied_by}", nobody)
    try:
        return await take_turn(database.link("files"), turn)
    finally:
        await database.close()


if __name__ == "__main__":
    asked = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - of our own program
    sys.stdout.buffer.write(pickle.dumps(asyncio.run(_take_turn(*asked))))
