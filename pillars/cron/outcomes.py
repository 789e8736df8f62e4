"""What can become of a tick, apart from the database: the command line names it before it asks."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """What became of a tick.

    - enqueued: its job waits for its time, or for a worker
    - buffered: its job waits for the end of an earlier one
    - running, succeeded
    - failed: to be tried again; dead: out of attempts
    - cancelled: by hand, by its handler, or by a later tick (overlap: cancel_other)
    - skipped: by the overlap policy
    - missed: cron was down, or the schedule paused or disabled
    - withdrawn: enqueued ahead, and taken back by a change before its time
    """

    ENQUEUED = "enqueued"
    BUFFERED = "buffered"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    MISSED = "missed"
    WITHDRAWN = "withdrawn"
