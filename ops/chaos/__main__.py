"""`ops/nemesis`: run, judge, print."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import random
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ops.chaos import pooler
from ops.chaos.arena import NemesisError, Plan, run
from ops.chaos.broken import BREAKS, UNSHARED
from ops.chaos.faults import FAULTS, NEED_MEMBERS, missing
from ops.chaos.invariants import judge
from ops.chaos.lateness import Figures, figures, picture
from ops.chaos.load import loads, per_second
from ops.chaos.provoked import provoked
from pillars.db.embedded import MAJOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.chaos.evidence import Evidence
    from ops.chaos.invariants.verdict import Verdict

_SHOWN = 5


def main() -> int:
    """Run, judge, print; returns the exit code: 0 all held, 1 something did not, 2 usage."""
    # What the nemesis' own connections meet is no news.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    plan, arguments = _plan()
    console = Console(stderr=True)
    console.print(
        f"seed {plan.seed}: {plan.seconds:g} s, {plan.crons} crons, {plan.workers} workers, "
        f"{plan.schedules} schedules"
    )
    try:
        evidence = _run(plan, console)
    except NemesisError as error:
        console.print(str(error), markup=False)
        return 1
    verdicts, late = judge(evidence), figures(evidence)
    _print(plan, evidence, verdicts, late)
    if arguments.json:
        Path(arguments.json).write_text(
            json.dumps(_report(plan, evidence, verdicts, late), indent=2, default=str) + "\n"
        )
    if plan.keep is not None:
        kept = json.dumps(asdict(evidence), default=list)
        (plan.keep / "evidence.json").write_text(kept + "\n")
    if arguments.picture:
        Path(arguments.picture).write_text(picture(evidence) + "\n")
    return 1 if any(verdict.violations for verdict in verdicts) else 0


def _plan() -> tuple[Plan, argparse.Namespace]:
    parser = argparse.ArgumentParser(
        prog="ops/nemesis",
        description="Harm real processes while they work, then check the database.",
        epilog="Faults: "
        + "; ".join(f"{name}: {doc(fault)}" for name, fault in FAULTS.items())
        + " Breaks: "
        + "; ".join(f"{name}: {what}" for name, (what, _) in BREAKS.items()),
    )
    parser.add_argument("--seconds", type=float, default=120.0, metavar="N")
    parser.add_argument("--seed", type=int, metavar="N", help="repeats the faults of a run")
    parser.add_argument("--faults", metavar="A,B", help="default: all")
    parser.add_argument("--crons", type=int, default=3, metavar="N")
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    parser.add_argument("--schedules", type=int, default=80, metavar="N")
    parser.add_argument("--each-second", type=int, default=0, metavar="N", help="and so many more")
    parser.add_argument("--lease", type=float, default=5.0, metavar="S")
    parser.add_argument("--lookahead", type=float, default=5.0, metavar="S")
    parser.add_argument(
        "--pgbouncer",
        choices=("listen", "poll"),
        default="",
        help="PgBouncer in transaction mode between; listen: with a direct URL for LISTEN",
    )
    parser.add_argument("--break", dest="broken", default="", metavar="A,B", help="take guards out")
    parser.add_argument("--json", metavar="FILE", help="write the verdicts and figures")
    parser.add_argument("--picture", metavar="FILE", help="write an SVG of lateness over time")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep logs and evidence there")
    arguments = parser.parse_args()
    asked = arguments.faults.split(",") if arguments.faults else list(FAULTS)
    for given, known, what in (
        (asked, FAULTS.keys(), "fault"),
        ([name for name in arguments.broken.split(",") if name], BREAKS.keys(), "break"),
    ):
        unknown = sorted(set(given) - set(known))
        if unknown:
            parser.error(f"there is no {what} {unknown[0]!r}: choose of {', '.join(known)}")
    if min(arguments.crons, arguments.workers, arguments.schedules) < 1 or arguments.seconds <= 0:
        parser.error("--crons, --workers, --schedules and --seconds are at least 1")
    if arguments.pgbouncer and pooler.PROGRAM is None:
        parser.error("pgbouncer is not installed (Debian and Ubuntu: apt-get install pgbouncer)")
    absent = {fault: lack for fault in asked if (lack := missing(fault))}
    for fault, lack in absent.items():
        if arguments.faults:
            parser.error(f"{fault}: {lack}")
        print(f"left out: {fault}: {lack}", file=sys.stderr)
    if UNSHARED in arguments.broken.split(","):
        # Whether a newer set of files is held by anyone alive is known from the members alone.
        absent |= dict.fromkeys(NEED_MEMBERS, "")
    faults = tuple(fault for fault in asked if fault not in absent)
    plan = Plan(
        seconds=arguments.seconds,
        seed=arguments.seed if arguments.seed is not None else random.randrange(10_000),  # noqa: S311
        faults=faults,
        crons=arguments.crons,
        workers=arguments.workers,
        schedules=arguments.schedules,
        lease=arguments.lease,
        lookahead=arguments.lookahead,
        each_second=arguments.each_second,
        pooler=arguments.pgbouncer,
        broken=arguments.broken,
        keep=arguments.keep,
    )
    return plan, arguments


def doc(fault: object) -> str:
    """Return the first line of what a fault says of itself, without its full stop."""
    return (fault.__doc__ or "").splitlines()[0].rstrip(".")


def _run(plan: Plan, console: Console) -> Evidence:
    columns = (TextColumn("{task.description:20}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=1.0)

        def tell(what: str, share: float) -> None:
            progress.update(task, description=what, completed=min(share, 1.0))

        return asyncio.run(run(plan, tell))


def _print(
    plan: Plan, evidence: Evidence, verdicts: Sequence[Verdict], late: Sequence[Figures]
) -> None:
    console = Console(width=None if sys.stdout.isatty() else 132)
    table = Table(title=_where(plan, evidence), title_justify="left")
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


def _report(
    plan: Plan, evidence: Evidence, verdicts: Sequence[Verdict], late: Sequence[Figures]
) -> dict[str, Any]:
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "where": _where(plan, evidence),
        "plan": asdict(plan),
        "invariants": [asdict(verdict) for verdict in verdicts],
        "lateness": [asdict(each) for each in late],
        "deeds": [asdict(deed) for deed in evidence.deeds],
        **provoked(evidence),
        "longest_pin": max((pin.seconds for pin in evidence.pins), default=0.0),
        "most_sessions": max((count for _, count in evidence.sessions), default=0),
    }


def _where(plan: Plan, evidence: Evidence) -> str:
    pooled = f"PgBouncer ({plan.pooler}), " if plan.pooler else ""
    rate = per_second(loads(plan.schedules, plan.each_second))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, seed {plan.seed}, {plan.seconds:g} s, "
        f"{len(evidence.deeds)} faults, {pooled}{plan.crons} crons, {plan.workers} workers, "
        f"{rate:.0f} ticks/s, lease {plan.lease:g} s, look-ahead {plan.lookahead:g} s; "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, PostgreSQL {MAJOR}"
    )


if __name__ == "__main__":
    sys.exit(main())
