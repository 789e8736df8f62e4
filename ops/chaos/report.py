"""What a run is told by: tables for a terminal, JSON for machines, Markdown for the README."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ops.chaos.faults import FAULTS
from ops.chaos.load import loads, per_second
from ops.chaos.provoked import provoked
from pillars.db.embedded import MAJOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ops.chaos.arena import Plan
    from ops.chaos.evidence import Evidence
    from ops.chaos.invariants.verdict import Verdict
    from ops.chaos.lateness import Figures

_SHOWN = 5


def doc(fault: object) -> str:
    """Return the first line of what a fault says of itself, without its full stop."""
    return (fault.__doc__ or "").splitlines()[0].rstrip(".")


def show(
    where: str,
    plan: Plan,
    evidence: Evidence,
    verdicts: Sequence[Verdict],
    late: Sequence[Figures],
) -> None:
    """Print the verdicts, the figures of each fault, and what was provoked."""
    console = Console(width=None if sys.stdout.isatty() else 132)
    table = Table(title=where, title_justify="left")
    for name in ("", "invariant", "checked", "violations"):
        table.add_column(name, justify="right" if name in {"checked", "violations"} else "left")
    for verdict in verdicts:
        table.add_row(
            verdict.name, verdict.claim, f"{verdict.checked:,}", f"{len(verdict.violations):,}"
        )
    console.print(table)
    for verdict in verdicts:
        for violation in verdict.violations[:_SHOWN]:
            console.print(f"{verdict.name}: {violation}", markup=False, soft_wrap=True)
        if len(verdict.violations) > _SHOWN:
            console.print(f"{verdict.name}: and {len(verdict.violations) - _SHOWN:,} more")
    table = Table(title="lateness in seconds; ahead: those enqueued ahead", title_justify="left")
    for name in (
        "fault",
        "times",
        "ticks",
        "ahead, late",
        "ahead, worst",
        "others, worst",
        "start p99",
        "start, worst",
        "after return",
        "goal",
        "",
    ):
        table.add_column(name, justify="left" if name == "fault" else "right")
    for each in late:
        table.add_row(
            each.fault,
            f"{each.times:,}",
            f"{each.ticks:,}",
            f"{each.late:,}",
            f"{each.late_max:.2f}",
            f"{each.others_max:.2f}",
            f"{each.delay_p99:.2f}",
            f"{each.delay_max:.2f}",
            f"{each.returned:.2f}",
            each.goal,
            "" if each.reached else "missed",
        )
    console.print(table)
    console.print("; ".join(f"{what}: {count:,}" for what, count in provoked(evidence).items()))
    if undone := not_done(plan, evidence):
        console.print(f"not done, for the time was over: {', '.join(undone)}")


def not_done(plan: Plan, evidence: Evidence) -> list[str]:
    """Return the faults that were asked for and whose turn never came."""
    done = {deed.fault for deed in evidence.deeds}
    return [fault for fault in plan.faults if fault not in done]


def as_json(
    where: str,
    plan: Plan,
    evidence: Evidence,
    verdicts: Sequence[Verdict],
    late: Sequence[Figures],
) -> dict[str, Any]:
    """Return all of it as plain values."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "where": where,
        "plan": asdict(plan),
        "invariants": [asdict(verdict) for verdict in verdicts],
        "lateness": [asdict(each) for each in late],
        "deeds": [asdict(deed) for deed in evidence.deeds],
        "not_done": not_done(plan, evidence),
        "provoked": provoked(evidence),
        "longest_pin": max((pin.seconds for pin in evidence.pins), default=0.0),
        "most_sessions": max((count for _, count in evidence.sessions), default=0),
    }


def where(plan: Plan, evidence: Evidence) -> str:
    """Return what a run that has just ended was, and on which machine."""
    pooled = f"PgBouncer ({plan.pooler}), " if plan.pooler else ""
    together = " at once" if plan.together else ""
    rate = per_second(loads(plan.schedules, plan.each_second))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, seed {plan.seed}, {plan.seconds:g} s, "
        f"{len(evidence.deeds)} faults{together}, {pooled}{plan.crons} crons, "
        f"{plan.workers} workers, {rate:.0f} ticks/s, "
        f"lease {plan.lease:g} s, look-ahead {plan.lookahead:g} s; "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, PostgreSQL {MAJOR}"
    )


def as_markdown(verdicts: Sequence[Verdict], late: Sequence[Figures]) -> str:
    """Return the tables of invariants and faults as the README has them."""
    return "\n".join([*_invariants(verdicts), "", *_faults(late), ""])


def _invariants(verdicts: Sequence[Verdict]) -> Iterator[str]:
    yield "| | Invariant | Held to it | Broken |"
    yield "|---|---|--:|--:|"
    for each in verdicts:
        yield f"| {each.name} | {each.claim} | {each.checked:,} | {len(each.violations):,} |"


def _faults(late: Sequence[Figures]) -> Iterator[str]:
    yield "| Fault | Times | Ahead: late | worst | Others: worst | After return | Goal |"
    yield "|---|--:|--:|--:|--:|--:|---|"
    for each in late:
        what = f": {doc(FAULTS[each.fault]).lower()}" if each.fault in FAULTS else ""
        goal = each.goal if each.reached else f"{each.goal}, missed"
        yield (
            f"| `{each.fault}`{what} | {each.times or ''} | {each.late:,} | {each.late_max:.2f} s "
            f"| {each.others_max:.2f} s | {each.returned:.2f} s | {goal} |"
        )
