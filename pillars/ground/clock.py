"""Two kinds of time: the monotonic clock of this process, and the clock of the database.

Instants that decide anything (is a tick due, is a heartbeat stale) come from PostgreSQL alone.
Statements read `coalesce(%(now)s, now())`: in production the parameter is NULL and the database
owns the time, a test passes an instant and owns it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime


class Clock(Protocol):
    """What the loops know of time."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes backwards."""

    def database_now(self) -> datetime | None:
        """Return the instant that overrides the database's clock; None in production."""


class SystemClock:
    """The clock of a running process."""

    def monotonic(self) -> float:
        """Seconds of `time.monotonic()`."""
        return time.monotonic()

    def database_now(self) -> datetime | None:
        """None: PostgreSQL owns the time."""
        return None
