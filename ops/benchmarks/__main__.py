"""`ops/bench`: run the benchmarks and print their table."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ops.benchmarks.ageing import ageing
from ops.benchmarks.bench import Figure, Ground
from ops.benchmarks.costing import costing
from ops.benchmarks.dealing import dealing
from ops.benchmarks.enqueueing import enqueueing
from ops.benchmarks.firing import firing, lived
from ops.benchmarks.statements import stating
from ops.benchmarks.telling import telling
from ops.benchmarks.waking import waking
from ops.benchmarks.working import working
from pillars.db.embedded import MAJOR
from pillars.db.scratch import temporary_postgres
from pillars.ground.settings import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

_ALL = {
    "enqueue": enqueueing,
    "work": working,
    "latency": waking,
    "fire": firing,
    "statements": stating,
    "ring": dealing,
    "tell": telling,
    "costs": costing,
    "age": ageing,
    "hours": lived,
}
# Take minutes, or show how rather than how much: they run when they are asked for.
_LONG = {"age", "costs", "hours"}
_SIZE, _ROUNDS = 50_000, 3
_QUICK_SIZE, _QUICK_ROUNDS = 5_000, 1
_BATCH = 5_000


def main() -> int:
    """Run what was asked for; returns the exit code."""
    arguments = _arguments()
    console = Console(stderr=True)
    figures: list[Figure] = []
    with console.status("starting PostgreSQL") as status:
        if arguments.database_url:
            figures = _run(arguments, Secret(arguments.database_url), status.update)
        else:
            with temporary_postgres("pillars-bench-") as server:
                figures = _run(arguments, server, status.update)
    _print(figures, arguments)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(_report(figures, arguments), indent=2) + "\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ops/bench",
        description="Measure the hot paths against bare SQL, side by side, on this machine.",
    )
    parser.add_argument(
        "only",
        nargs="*",
        metavar="WHAT",
        help=f"of {', '.join(_ALL)}; default all but {', '.join(sorted(_LONG))}",
    )
    parser.add_argument("--size", type=int, default=_SIZE, metavar="N", help="jobs or schedules")
    parser.add_argument(
        "--rounds", type=int, default=_ROUNDS, metavar="N", help="in turns with bare"
    )
    parser.add_argument(
        "--quick", action="store_true", help="does it run at all? the figures mean little"
    )
    parser.add_argument("--json", metavar="FILE", help="write all rounds, too")
    parser.add_argument(
        "--database-url", metavar="URL", help="another server; may create databases"
    )
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.only) - set(_ALL))
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}: choose of {', '.join(_ALL)}")
    if arguments.quick:
        arguments.size, arguments.rounds = _QUICK_SIZE, _QUICK_ROUNDS
    if arguments.size < _BATCH or arguments.size % _BATCH or arguments.rounds < 1:
        parser.error(f"--size is a multiple of {_BATCH:,}, --rounds at least 1")
    return arguments


def _run(arguments: argparse.Namespace, server: Secret, tell: Any) -> list[Figure]:  # noqa: ANN401 - rich's own
    ground = Ground(server, arguments.size, arguments.rounds, tell)

    async def run() -> list[Figure]:
        found = []
        for name, benchmark in _ALL.items():
            if name in (arguments.only or _ALL.keys() - _LONG):
                found += await benchmark(ground)
        return found

    return asyncio.run(run())


def _print(figures: Sequence[Figure], arguments: argparse.Namespace) -> None:
    console = Console(width=None if sys.stdout.isatty() else 132)
    table = Table(title=_where(arguments), title_justify="left")
    for name, side in (
        ("figure", "left"),
        ("ours", "right"),
        ("bare", "right"),
        ("ratio", "right"),
        ("rounds", "left"),
        ("goal", "left"),
    ):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for figure in figures:
        ratio = figure.ratio
        table.add_row(
            figure.name,
            f"{_number(statistics.median(figure.ours))} {figure.unit}",
            _number(statistics.median(figure.bare)) if figure.bare else "",
            f"{ratio:.2f}" if ratio is not None else "",
            " ".join(map(_number, figure.ours)),
            figure.goal,
        )
    console.print(table)


def _report(figures: Sequence[Figure], arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "where": _where(arguments),
        "figures": [figure.as_dict() for figure in figures],
    }


def _where(arguments: argparse.Namespace) -> str:
    server = "the given server" if arguments.database_url else f"embedded PostgreSQL {MAJOR}"
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {server}, size {arguments.size:,}, "
        f"load when done {load:.1f}"
    )


def _number(value: float) -> str:
    if value >= 100:  # noqa: PLR2004 - digits that mean something
        return f"{value:,.0f}"
    return f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
