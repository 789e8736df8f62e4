"""What is wrong with a schedule's definition: every fault at once, each under its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pillars.ground.errors import PillarsError

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to mend; `key` is dotted (`dst.missing`), None for the schedule as a whole."""

    key: str | None
    message: str

    def __str__(self) -> str:
        """Show the key before the message."""
        return self.message if self.key is None else f"{self.key}: {self.message}"


class ScheduleError(PillarsError):
    """The schedule's definition cannot be used."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        """Keep every fault; the message lists one a line."""
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))
