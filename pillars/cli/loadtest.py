"""`pillars loadtest`: runs one, shows it live, tells what it came to."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from pillars.cli import FAILED, INTERRUPTED
from pillars.cli.output import (
    UnwritableFileError,
    as_json,
    print_record,
    print_table,
    write_file,
)
from pillars.ground.errors import UsageError
from pillars.ground.settings import load_settings
from pillars.loadtest.mix import Mix
from pillars.loadtest.orders import order_of

if TYPE_CHECKING:
    import argparse

    from pillars.ground.settings import Settings
    from pillars.loadtest.report import Report


def loadtest(arguments: argparse.Namespace) -> int:
    """Run a load test; returns 0 when each tick was enqueued once, and nothing else."""
    from pillars.cli.loadtest_view import view  # noqa: PLC0415 - rich is costly
    from pillars.loadtest.run import run_loadtest  # noqa: PLC0415 - and so is aiohttp

    settings = _settings(arguments)
    order = order_of(
        schedules=arguments.schedules,
        mix=Mix(arguments.mix),
        replicas=arguments.replicas,
        workers=arguments.workers,
        seconds=arguments.seconds,
        plan=arguments.plan,
        lookahead=settings.lookahead,
        lease=settings.lease,
        concurrency=settings.concurrency,
        seed=arguments.seed,
    )
    database = settings.database_url
    if arguments.in_place and database is None:
        raise UsageError("--in-place: name the database with --database-url")
    with view() as tell:
        report = asyncio.run(run_loadtest(order, database, in_place=arguments.in_place, tell=tell))
    if report is None:
        print("pillars: interrupted; nothing of it is left", file=sys.stderr)
        return INTERRUPTED
    _print(report)
    _write(report, arguments)
    return 0 if report.counts else FAILED


def _settings(arguments: argparse.Namespace) -> Settings:
    given = {"PILLARS_DATABASE_URL": arguments.database_url} if arguments.database_url else {}
    return load_settings({**os.environ, **given}, lookahead=arguments.lookahead)


def _print(report: Report) -> None:
    from pillars.loadtest.page import (  # noqa: PLC0415
        PROCESS_HEADINGS,
        asked,
        figures,
        process_rows,
        verdict,
    )

    print(f"{asked(report)}\n{report.when}, {report.where}\n")
    print_record(figures(report))
    print()
    print_table(PROCESS_HEADINGS, process_rows(report), "")
    print(f"\n{verdict(report)}")
    if report.behind:
        print(
            "the crons were behind at the end: this machine does not keep up with "
            f"{report.counts.expected / report.order.seconds:,.0f} fires a second"
        )


def _write(report: Report, arguments: argparse.Namespace) -> None:
    from pillars.loadtest.page import page  # noqa: PLC0415

    wanted = []
    if arguments.json is not None:
        wanted.append(("figures", arguments.json, as_json(report.as_dict()) + "\n"))
    if arguments.report is not None:
        wanted.append(("report", arguments.report, page(report)))
    faults = []
    for name, path, text in wanted:
        try:
            write_file(path, text, overwrite=True)
        except UnwritableFileError as error:
            # The run cannot be had again: what can be kept of it is.
            faults.append(str(error))
        else:
            print(f"{name}: {path}")
    if faults:
        raise UnwritableFileError("\n".join(faults))
