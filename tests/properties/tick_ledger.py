"""What became of each tick of one schedule, against what its policy asks for.

The ledger knows when the schedule had which timing, whether it fired then, and when somebody had
looked at everything that is due. It finds the ticks by asking of each second whether it is one; it
does not know cursors, plans or versions.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from tests.cron.world import Stretch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Seconds after which a tick that nobody came to fire counts as missed.
_GRACE = 30


class _Watched(NamedTuple):
    stretch: Stretch
    looks: Sequence[int]


class TickLedger:
    """Keeps account of one schedule; instants in epoch seconds."""

    def __init__(self, catchup: str, overlap: str, now: int) -> None:
        self._catchup = catchup
        self._overlaps = overlap == "allow"
        self.timing, self.enabled, self.paused = 0, True, False
        self._since = now
        self._looks: list[int] = []
        self._past: list[_Watched] = []
        self._ran: Counter[int] = Counter()
        self._recorded: set[int] = set()

    def changes(self, now: int) -> None:
        """End the stretch during which nothing changed; the caller changes something then."""
        stretch = Stretch(self.timing, self.enabled and not self.paused, self._since, now)
        self._past.append(_Watched(stretch, tuple(self._looks)))
        self._since, self._looks = now, []

    def looked(self, now: int) -> None:
        """Note that somebody took everything that was due."""
        self._looks.append(now)

    def ran(self, tick: int) -> None:
        """Note that a job of this tick was run."""
        self._ran[tick] += 1

    def recorded(self, first: int, until: int) -> None:
        """Note that ticks are on record as missed or skipped."""
        self._recorded |= set(range(first, until + 1))

    def faults(self) -> Iterator[str]:
        """Tell what is wrong, after the last change."""
        if any(times > 1 for times in self._ran.values()):
            yield "run twice"
        if self._expected() - set(self._ran) - self._recorded:
            yield "lost"
        if self._overlaps and self._demanded() - set(self._ran):
            yield "not run, though the policy asks for it"
        if set(self._ran) - self._allowed():
            yield "run out of turn"

    def _expected(self) -> set[int]:
        return {tick for past in self._past for tick in past.stretch.ticks()}

    def _allowed(self) -> set[int]:
        return {tick for past in self._past if past.stretch.fires for tick in past.stretch.ticks()}

    def _demanded(self) -> set[int]:
        return {
            tick
            for past in self._past
            if past.stretch.fires
            for tick in past.stretch.ticks()
            if self._is_demanded(tick, past)
        }

    def _is_demanded(self, tick: int, past: _Watched) -> bool:
        """Tell whether a tick is to be run, going by when it was first looked for."""
        look = next((look for look in past.looks if look > tick), None)
        if look is None:
            return False
        if look - tick <= _GRACE or self._catchup == "all":
            return True
        newer = any(tick < other <= look for other in past.stretch.ticks())
        return self._catchup == "last" and not newer
