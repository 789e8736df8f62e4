"""What must hold after a run: pure functions from the evidence to violations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.chaos.invariants import health, jobs, members, ticks

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.chaos.evidence import Evidence
    from ops.chaos.invariants.verdict import Verdict

CHECKS: tuple[Callable[[Evidence], Verdict], ...] = (
    ticks.each_tick_once,
    ticks.no_tick_lost,
    ticks.nothing_early,
    members.ring_is_whole,
    members.nobody_expelled_wrongly,
    jobs.each_job_ends_once,
    health.nothing_pinned,
    health.nothing_unexpected,
)


def judge(evidence: Evidence) -> list[Verdict]:
    """Hold the evidence to every invariant; without membership there is no ring to look at."""
    return [
        check(evidence)
        for check in CHECKS
        if evidence.membership or check is not members.ring_is_whole
    ]
