"""When a failed job is tried again: a pure function of its policy and its failures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Backoff(StrEnum):
    """How the pause grows with each failure."""

    EXPONENTIAL = "exponential"
    LINEAR = "linear"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and after which pauses a job is tried; seconds."""

    max_attempts: int = 5
    backoff: Backoff = Backoff.EXPONENTIAL
    base: float = 10.0
    max: float = 3600.0

    def as_dict(self) -> dict[str, Any]:
        """Return the form kept in the `retry` column."""
        return {
            "max_attempts": self.max_attempts,
            "backoff": str(self.backoff),
            "base": self.base,
            "max": self.max,
        }

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> RetryPolicy:
        """Read what `as_dict` wrote.

        Raises:
            ValueError: an unknown backoff.
        """
        default = RetryPolicy()
        return RetryPolicy(
            max_attempts=int(raw.get("max_attempts", default.max_attempts)),
            backoff=Backoff(raw.get("backoff", default.backoff)),
            base=float(raw.get("base", default.base)),
            max=float(raw.get("max", default.max)),
        )


DEFAULT_RETRY = RetryPolicy()
MOST_ATTEMPTS = 32_767
# A hundred years, in seconds: longer is a slip of the unit.
LONGEST_PAUSE = 3_155_760_000


def fault_of(policy: RetryPolicy) -> str | None:
    """Return what is wrong with a policy, None if nothing is."""
    if not 1 <= policy.max_attempts <= MOST_ATTEMPTS:
        return f"max_attempts {policy.max_attempts} is out of range: 1 to {MOST_ATTEMPTS}"
    if policy.backoff not in list(Backoff):
        return f"backoff {policy.backoff!r} is none of {', '.join(Backoff)}"
    for what, seconds in (("base", policy.base), ("max", policy.max)):
        if not 0 <= seconds <= LONGEST_PAUSE:
            return f"{what} {seconds} is out of range: 0 to {LONGEST_PAUSE:,} seconds"
    return None


def retry_in(policy: RetryPolicy, failures: int, jitter: float) -> float | None:
    """Return the seconds until the next attempt, or None when there is none any more.

    Args:
        policy: the job's policy.
        failures: attempts that failed so far, this one included; 1 or more.
        jitter: a number from 0 to 1; the pause is shortened by up to a quarter of itself, so that
            jobs that failed together do not come back together.
    """
    if failures >= policy.max_attempts:
        return None
    match policy.backoff:
        case Backoff.EXPONENTIAL:
            pause = policy.base * 2.0 ** min(failures - 1, 60)
        case Backoff.LINEAR:
            pause = policy.base * failures
        case Backoff.CONSTANT:
            pause = policy.base
    return min(pause, policy.max) * (1.0 - 0.25 * jitter)
