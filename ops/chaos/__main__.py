"""`ops/nemesis`: run, judge, print."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ops.chaos import kept, pooler
from ops.chaos.arena import NemesisError, Plan, run
from ops.chaos.broken import BREAKS, UNSHARED
from ops.chaos.faults import FAULTS, NEED_MEMBERS, missing
from ops.chaos.invariants import judge
from ops.chaos.lateness import figures, picture
from ops.chaos.report import as_json, as_markdown, doc, show, where

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.chaos.evidence import Evidence
    from ops.chaos.invariants.verdict import Verdict
    from ops.chaos.lateness import Figures


def main() -> int:
    """Run, judge, print; returns the exit code: 0 all held, 1 something did not, 2 usage."""
    # What the nemesis' own connections meet is no news.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    plan, arguments = _plan()
    console = Console(stderr=True)
    try:
        if arguments.judge is not None:
            told, plan, evidence = kept.read(arguments.judge)
        else:
            evidence = _run(plan, console)
            told = where(plan, evidence)
    except NemesisError as error:
        console.print(str(error), markup=False)
        return 1
    # Before it is judged: a run of an hour is not to be lost with a mistake of its judge.
    if plan.keep is not None and arguments.judge is None:
        kept.keep(plan.keep, told, plan, evidence)
    verdicts, late = judge(evidence), figures(evidence)
    show(told, plan, evidence, verdicts, late)
    if arguments.json:
        Path(arguments.json).write_text(
            json.dumps(as_json(told, plan, evidence, verdicts, late), indent=2, default=str) + "\n"
        )
    if arguments.markdown:
        Path(arguments.markdown).write_text(as_markdown(verdicts, late))
    if arguments.picture:
        Path(arguments.picture).write_text(picture(evidence) + "\n")
    return exit_code(verdicts, late if arguments.hold_goals else ())


def exit_code(verdicts: Sequence[Verdict], goals: Sequence[Figures]) -> int:
    """Return 1 if an invariant is broken or a goal missed."""
    broken = any(verdict.violations for verdict in verdicts)
    return 1 if broken or not all(each.reached for each in goals) else 0


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
    parser.add_argument(
        "--together",
        action="store_true",
        help="harm processes, links and the database at once, not one after the other",
    )
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
    parser.add_argument("--markdown", metavar="FILE", help="write the tables of the README")
    parser.add_argument("--picture", metavar="FILE", help="write an SVG of lateness over time")
    parser.add_argument(
        "--hold-goals", action="store_true", help="exit with 1 also if a goal of lateness is missed"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep logs and evidence there")
    parser.add_argument(
        "--judge", type=Path, metavar="DIR", help="run nothing: judge what was kept there once more"
    )
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
        together=arguments.together,
        keep=arguments.keep,
    )
    return plan, arguments


def _run(plan: Plan, console: Console) -> Evidence:
    console.print(
        f"seed {plan.seed}: {plan.seconds:g} s, {plan.crons} crons, {plan.workers} workers, "
        f"{plan.schedules} schedules"
    )
    columns = (TextColumn("{task.description:20}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=1.0)

        def tell(what: str, share: float) -> None:
            progress.update(task, description=what, completed=min(share, 1.0))

        return asyncio.run(run(plan, tell))


if __name__ == "__main__":
    sys.exit(main())
