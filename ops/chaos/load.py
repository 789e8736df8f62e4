"""The schedules of a run, and the ticks they demand by plain arithmetic."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# The run's edited schedules are kept apart from those whose every tick is demanded.
EDITED = 4
# What changes with each edition of the files, and what is backfilled.
_RELOADED = 2
PAST = "past"
PAST_EVERY = 60


@dataclass(frozen=True, slots=True)
class Load:
    """A schedule: `every` and `jitter` in seconds.

    Those with an `overlap` policy other than allow are enqueued at their time, not ahead of it.
    """

    name: str
    every: int
    seconds: float = 0.02
    jitter: int = 0
    overlap: str = "allow"
    edited: bool = False
    reloaded: bool = False

    @property
    def ahead(self) -> bool:
        """Whether its ticks are enqueued before their time."""
        return self.overlap == "allow"

    def ticks(self, after: float, until: float) -> range:
        """Return the epoch seconds that are whole multiples of `every`, after < tick <= until."""
        first = (int(after) // self.every + 1) * self.every
        return range(first, int(until) + 1, self.every)

    def as_dict(self, edition: int) -> dict[str, Any]:
        """Return the schedule as this edition of the files has it."""
        given = {
            "name": self.name,
            "every": f"{self.every}s",
            "job": "nemesis.step",
            "args": {"seconds": self.seconds} | ({"edition": edition} if self.reloaded else {}),
            "catchup": "all",
            "catchup_limit": 10_000,
            "overlap": self.overlap,
        }
        return given | ({"jitter": f"{self.jitter}s"} if self.jitter else {})


def loads(count: int, each_second: int = 0) -> list[Load]:
    """Return about so many schedules of all sorts, some each second, and a few for edits."""
    return [
        *(_mixed(number) for number in range(count)),
        *(Load(f"second-{number}", 1, seconds=0.0) for number in range(each_second)),
        *(Load(f"edited-{number}", 1, edited=True) for number in range(EDITED)),
        *(Load(f"reloaded-{number}", 1, reloaded=True) for number in range(_RELOADED)),
        Load(PAST, PAST_EVERY),
    ]


def as_yaml(schedules: Iterable[Load], edition: int) -> str:
    """Return the text of an edition of a schedule file; JSON is YAML."""
    lines = [f"  - {json.dumps(each.as_dict(edition))}" for each in schedules]
    return "\n".join(["schedules:", *lines, ""])


def per_second(schedules: Sequence[Load]) -> float:
    """Return how many ticks a second they have on average."""
    return sum(1 / each.every for each in schedules)


def _mixed(number: int) -> Load:
    # Of each sixteen: nine each second, two each 2 s, two each 5 s, one of each exclusive sort.
    # The work of those lasts longer than their interval at times, so that the policy decides.
    sorts = {
        9: Load(f"two-{number}", 2),
        10: Load(f"two-{number}", 2, jitter=1),
        11: Load(f"five-{number}", 5),
        12: Load(f"five-{number}", 5, jitter=3),
        13: Load(f"skip-{number}", 1, seconds=1.3, overlap="skip"),
        14: Load(f"buffer-{number}", 2, seconds=2.2, overlap="buffer_one"),
        15: Load(f"cancel-{number}", 2, seconds=2.2, overlap="cancel_other"),
    }
    return sorts.get(number % 16, Load(f"one-{number}", 1))
