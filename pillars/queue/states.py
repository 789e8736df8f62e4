"""The life of a job.

    available --claim--> running --finish--> succeeded
         ^                  |--------------> dead       out of attempts, or it kills its workers
         |                  |--------------> failed     claimable again at its later run_at
         +-- rescue, return-+

    available, failed --cancel--> cancelled
    running --cancel asked for, seen by its worker or by the next to claim it--> cancelled
    running --snooze, type unknown--> available at a later run_at
    dead, cancelled, failed --retry--> available

`skipped` and `missed` are ticks that never became work; they are born finished.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

JobId = NewType("JobId", int)


class JobState(StrEnum):
    """The states of `pillars.job_state`."""

    AVAILABLE = "available"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    MISSED = "missed"
