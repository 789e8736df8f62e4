"""The parser: every command, flag and word of help."""

from __future__ import annotations

import argparse
from importlib.metadata import version
from typing import TYPE_CHECKING

from pillars.cli.flags import (
    Commands,
    Parser,
    app_flag,
    command,
    count,
    directory_flag,
    few,
    json_flag,
    port,
)
from pillars.cli.loadtest_parser import add_loadtest
from pillars.cli.schedules_parser import add_schedules
from pillars.ground.settings import SETTINGS
from pillars.queue.states import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENVIRONMENT = "environment:\n" + "\n".join(
    f"  {setting.env:<28} {setting.help}" for setting in SETTINGS
)
_EXAMPLES = """\
examples:
  pillars up                                  everything on this machine; Ctrl-C stops it
  pillars status                              who is alive and owns what
  pillars schedules check                     are the files right? what is suspicious?
  pillars jobs enqueue log --args '{"message": "hello"}'
  psql "$(pillars dsn)"                       look into the embedded database
"""
_STATES = tuple(state.value for state in JobState)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read a command; its `run` names the function to import and call.

    What cannot be read ends the process with exit code 2.
    """
    arguments, unknown = _parser().parse_known_args(words)
    if unknown:
        arguments.parser.refuse(unknown[0])
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(
        prog="pillars",
        description="Distributed cron and job queue on one Postgres.",
        epilog=f"{_EXAMPLES}\n{_ENVIRONMENT}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pillars {version('pillars')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_processes(commands)
    _add_status(commands)
    add_schedules(commands)
    _add_jobs(commands)
    _add_queues(commands)
    add_loadtest(commands)
    return parser


def _add_processes(commands: Commands[argparse.ArgumentParser]) -> None:
    up = command(commands, "up", "run:up", "run everything on this machine; Ctrl-C stops it")
    up.add_argument("--cron", type=count, default=3, metavar="N", help="crons (default 3)")
    up.add_argument("--workers", type=count, default=2, metavar="N", help="workers (default 2)")
    server = command(commands, "server", "run:server", "answer web requests")
    worker = command(commands, "worker", "run:worker", "run jobs")
    cron = command(commands, "cron", "run:cron", "put jobs on the queue by schedule")
    for parser in (up, server):
        parser.add_argument("--port", type=port, metavar="N", help="PILLARS_PORT, default 8000")
    for parser in (up, server, worker):
        app_flag(parser, "the application (PILLARS_APP; `up` runs an example without it)")
    app_flag(cron, "the application with schedules in code (PILLARS_APP)")
    for parser in (up, cron):
        directory_flag(parser)
    for parser in (up, server, worker, cron):
        parser.add_argument("--host", metavar="ADDRESS", help="PILLARS_HOST, default 127.0.0.1")
    for parser in (worker, cron):
        parser.add_argument(
            "--metrics-port",
            type=port,
            metavar="N",
            help="PILLARS_METRICS_PORT, default any free port",
        )
    for parser in (server, worker, cron):
        parser.add_argument("--name", help="PILLARS_NAME, default host-role-pid")
    worker.add_argument("--concurrency", type=count, metavar="N", help="jobs at once, default 20")
    worker.add_argument("--processes", type=count, metavar="N", help="processes, default 1")
    worker.add_argument("--queues", metavar="A,B", help="queues to serve, default all")
    command(commands, "migrate", "run:migrate", "bring the database's schema up to date")
    command(commands, "dsn", "run:dsn", "print the URL of the running embedded database")


def _add_status(commands: Commands[argparse.ArgumentParser]) -> None:
    status = command(commands, "status", "status:status", "show members, shares and queues")
    json_flag(status)
    status.add_argument("--watch", action="store_true", help="go on showing it, live")


def _add_jobs(commands: Commands[argparse.ArgumentParser]) -> None:
    group = commands.add_parser("jobs", help="enqueue, list, show, retry and cancel jobs")
    verbs = group.add_subparsers(title="verbs", metavar="VERB", required=True)
    enqueue = command(verbs, "enqueue", "jobs:put", "put a job on the queue")
    enqueue.add_argument("type", help="the job type, as in `log` or `mail.welcome`")
    enqueue.add_argument("--args", default="{}", metavar="JSON", help="the handler's arguments")
    app_flag(enqueue, "the application (PILLARS_APP): is the type known, and which is its queue?")
    enqueue.add_argument("--queue", metavar="NAME", help="default: its type's, else `default`")
    enqueue.add_argument("--priority", type=int, default=0, help="lower first (default 0)")
    enqueue.add_argument("--delay", metavar="DURATION", help="not before, as in 90s or 2h")
    enqueue.add_argument("--run-at", metavar="TIME", help="not before, as in 2026-12-01T09:00:00Z")
    enqueue.add_argument("--max-attempts", type=count, metavar="N")
    enqueue.add_argument("--timeout", metavar="DURATION", help="how long an attempt may take")
    enqueue.add_argument(
        "--unique-key", metavar="KEY", help="not while an unfinished job has this key"
    )
    enqueue.add_argument(
        "--unique-for", metavar="DURATION", help="the key is kept so long even if the job has ended"
    )
    enqueue.add_argument(
        "--concurrency-key", metavar="KEY", help="jobs with this key run one after another"
    )
    enqueue.add_argument(
        "--concurrency-limit", type=count, metavar="N", help="or so many of them at a time"
    )
    enqueue.add_argument(
        "--expires-in", metavar="DURATION", help="cancelled unless started so soon after its time"
    )
    listing = command(verbs, "list", "jobs:listing", "list jobs, newest first")
    listing.add_argument("--state", choices=_STATES)
    listing.add_argument("--type")
    listing.add_argument("--queue")
    listing.add_argument("--schedule")
    listing.add_argument("--before", type=count, metavar="ID", help="go on from this job")
    listing.add_argument("--limit", type=count, default=50, metavar="N", help="default 50")
    show = command(verbs, "show", "jobs:show", "show one job with its error")
    retry = command(verbs, "retry", "jobs:retry", "run dead, cancelled or failed jobs again")
    retry.add_argument("id", type=count, metavar="ID", nargs="?")
    retry.add_argument(
        "--state",
        choices=("dead", "cancelled", "failed"),
        help="the newest of these, not one by ID",
    )
    retry.add_argument("--type", help="of these only this type")
    retry.add_argument("--queue", help="of these only this queue")
    retry.add_argument("--limit", type=few, default=100, metavar="N", help="default 100")
    cancel = command(verbs, "cancel", "jobs:cancel", "cancel a job that waits or runs")
    for parser in (show, cancel):
        parser.add_argument("id", type=count, metavar="ID")
    for parser in (enqueue, listing, show):
        json_flag(parser)


def _add_queues(commands: Commands[argparse.ArgumentParser]) -> None:
    group = commands.add_parser("queues", help="list, limit, pause and resume queues")
    verbs = group.add_subparsers(title="verbs", metavar="VERB", required=True)
    json_flag(command(verbs, "list", "queues:listing", "list queues with their depth and limits"))
    limit = command(verbs, "limit", "queues:limit", "set a queue's limits, over all workers")
    pause = command(verbs, "pause", "queues:pause", "start no more jobs of a queue")
    resume = command(verbs, "resume", "queues:resume", "start a queue's jobs again")
    for parser in (limit, pause, resume):
        parser.add_argument("queue", metavar="NAME")
    limit.add_argument("--concurrency", type=count, metavar="N", help="so many run at a time")
    limit.add_argument("--rate", metavar="RATE", help="so many start: 10/s, 100/m or 5000/h")
    limit.add_argument(
        "--burst",
        type=count,
        metavar="N",
        help="so many start at once after a lull (default: those of 0.1 s)",
    )
    limit.add_argument("--none", action="store_true", help="lift the limits")
