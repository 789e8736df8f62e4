"""The choices a schedule's author makes, as words."""

from __future__ import annotations

from enum import StrEnum


class Catchup(StrEnum):
    """Which of the ticks that were missed while no cron ran are enqueued after all."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


class Overlap(StrEnum):
    """What a tick does while the job of an earlier one has not ended."""

    ALLOW = "allow"
    SKIP = "skip"
    BUFFER_ONE = "buffer_one"
    CANCEL_OTHER = "cancel_other"


class Missing(StrEnum):
    """When a fixed-time job runs whose wall time is jumped over: at the jump, or not."""

    SHIFT = "shift"
    SKIP = "skip"


class Ambiguous(StrEnum):
    """When a fixed-time job runs whose wall time comes twice."""

    FIRST = "first"
    LAST = "last"
    BOTH = "both"
