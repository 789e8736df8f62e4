"""The commands that run: up, server, worker, cron; and migrate and dsn."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pillars.cli.context import dsn_from, settings_from
from pillars.ground.events import nobody

if TYPE_CHECKING:
    import argparse
    from collections.abc import Coroutine

    from pillars.app import App
    from pillars.ground.settings import Settings

EXAMPLE = "pillars.example:app"
# Seconds for what an application has left running, once all of ours is done.
_LAST_MOMENT = 1.0


def up(arguments: argparse.Namespace) -> int:
    """Run everything on this machine."""
    from pillars.processes.up import run_up  # noqa: PLC0415 - aiohttp takes 0.3 s to import

    settings = settings_from(arguments)
    if settings.app is None:
        settings = replace(settings, app=EXAMPLE)
    _app(settings)
    return run_up(settings, crons=arguments.cron, workers=arguments.workers)


def server(arguments: argparse.Namespace) -> int:
    """Run a server."""
    from pillars.processes.server import run_server  # noqa: PLC0415

    settings = settings_from(arguments)
    _run(run_server(settings, dsn_from(settings), _app(settings)))
    return 0


def worker(arguments: argparse.Namespace) -> int:
    """Run a worker, or several that are operated as one."""
    from pillars.processes.worker import run_worker  # noqa: PLC0415
    from pillars.processes.workers import run_workers  # noqa: PLC0415

    settings = settings_from(arguments)
    if settings.processes > 1:
        return run_workers(settings, dsn_from(settings))
    _run(run_worker(settings, dsn_from(settings), _app(settings)))
    return 0


def cron(arguments: argparse.Namespace) -> int:
    """Run a cron."""
    from pillars.processes.cron import run_cron  # noqa: PLC0415

    settings = settings_from(arguments)
    _run(run_cron(settings, dsn_from(settings)))
    return 0


def migrate(arguments: argparse.Namespace) -> int:
    """Bring the schema up to date."""
    from pillars.cli.context import with_database  # noqa: PLC0415
    from pillars.db.migrate import migrate as bring_up_to_date  # noqa: PLC0415

    count = with_database(
        arguments,
        lambda database: bring_up_to_date(database, nobody),
    )
    print(f"{count} migrations applied" if count else "the schema is up to date")
    return 0


def dsn(arguments: argparse.Namespace) -> int:
    """Print the URL of the running embedded database."""
    from pillars.db.embedded import EmbeddedPostgres  # noqa: PLC0415

    print(EmbeddedPostgres(settings_from(arguments).data_dir).dsn.reveal())
    return 0


def _run(process: Coroutine[Any, Any, None]) -> None:
    """Run a process, and end it even if something of the application's does not.

    asyncio waits for threads of `asyncio.to_thread` and for tasks that will not be cancelled, for
    ever on Python 3.11, although their jobs have been handed back long since.
    """

    def end(code: int) -> None:
        print("the process ends although something of the application still runs", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    async def run() -> None:
        code = 1
        try:
            await process
            code = 0
        finally:
            timer.args = [code]
            timer.start()

    timer = threading.Timer(_LAST_MOMENT, end)
    timer.daemon = True
    try:
        asyncio.run(run())
    finally:
        timer.cancel()


def _app(settings: Settings) -> App:
    from pillars.app import App  # noqa: PLC0415 - psycopg takes 0.2 s to import
    from pillars.loading import load_app  # noqa: PLC0415

    return load_app(settings.app) if settings.app else App()
