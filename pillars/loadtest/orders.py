"""What a load test is to be: all that was asked for is checked at once, before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pillars.ground.errors import UsageError, did_you_mean
from pillars.ground.settings import duration
from pillars.loadtest.mix import Mix

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_SCHEDULES = 2_000_000
MOST_PROCESSES = 64
SHORTEST, LONGEST = 5, 14_400
# A run holds all its jobs until they are counted: 8 GB of them.
MOST_TICKS = 20_000_000
_HERD_NEEDS = 60


class Deed(StrEnum):
    """What can be done to the crons: one more, one killed without a word, one asked to leave."""

    JOIN = "join"
    KILL = "kill"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Step:
    """One deed, so many seconds after the first tick."""

    at: float
    deed: Deed


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for; durations in seconds."""

    schedules: int
    mix: Mix
    replicas: int
    workers: int
    seconds: int
    plan: tuple[Step, ...]
    lookahead: float
    lease: float
    concurrency: int
    seed: int


def order_of(
    *,
    schedules: int,
    mix: Mix,
    replicas: int,
    workers: int,
    seconds: int,
    plan: str,
    lookahead: float,
    lease: float,
    concurrency: int,
    seed: int,
) -> Order:
    """Return the order; `plan` is a text like `30s:kill,60s:join,90s:leave`.

    Raises:
        UsageError: with every fault there is.
    """
    steps, faults = _read_plan(plan)
    order = Order(
        schedules=schedules,
        mix=mix,
        replicas=replicas,
        workers=workers,
        seconds=seconds,
        plan=tuple(sorted(steps, key=lambda step: step.at)),
        lookahead=lookahead,
        lease=lease,
        concurrency=concurrency,
        seed=seed,
    )
    faults = [*_sizes(order), *faults, *_contradictions(order)]
    if faults:
        raise UsageError("\n".join(faults))
    return order


def check_ticks(rate: float, seconds: int) -> None:
    """Refuse more ticks than are to be kept and counted.

    Raises:
        UsageError: naming what would be few enough.
    """
    if rate * seconds > MOST_TICKS:
        raise UsageError(
            f"{rate * seconds:,.0f} ticks are too many to keep and count: at {rate:,.0f} a second "
            f"give --seconds {int(MOST_TICKS / rate):,}, or fewer --schedules"
        )


def _sizes(order: Order) -> Iterator[str]:
    for flag, given, least, most in (
        ("--schedules", order.schedules, 1, MOST_SCHEDULES),
        ("--replicas", order.replicas, 1, MOST_PROCESSES),
        ("--workers", order.workers, 0, MOST_PROCESSES),
        ("--seconds", order.seconds, SHORTEST, LONGEST),
    ):
        if not least <= given <= most:
            yield f"{flag} {given}: give a number from {least:,} to {most:,}"
    if order.mix is Mix.HERD and SHORTEST <= order.seconds < _HERD_NEEDS:
        yield f"--seconds {order.seconds}: a herd comes at the full minute, give 60 or more"


def _read_plan(text: str) -> tuple[list[Step], list[str]]:
    steps: list[Step] = []
    faults: list[str] = []
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            steps.append(_step(part))
        except ValueError as error:
            faults.append(f"--plan {part!r}: {error}")
    return steps, faults


def _step(part: str) -> Step:
    at, _, deed = part.partition(":")
    if not deed:
        raise ValueError("write a time and what is done then, as in 30s:kill")
    known = [str(each) for each in Deed]
    if deed not in known:
        raise ValueError(f"{deed!r} is none of {', '.join(known)}{did_you_mean(deed, known)}")
    return Step(duration(at), Deed(deed))


def _contradictions(order: Order) -> Iterator[str]:
    left = order.replicas
    for step in order.plan:
        name = f"--plan '{step.at:g}s:{step.deed}'"
        left += 1 if step.deed is Deed.JOIN else -1
        if step.at >= order.seconds:
            yield f"{name}: the run is over after {order.seconds} s, give more --seconds"
        if left == 0:
            yield f"{name}: no cron would be left, give more --replicas or let one join before"
    if sum(step.deed is Deed.JOIN for step in order.plan) + order.replicas > MOST_PROCESSES:
        yield f"--plan: more than {MOST_PROCESSES} crons"
