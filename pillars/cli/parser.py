"""The parser: every command, flag and word of help."""

from __future__ import annotations

import argparse
from datetime import date
from importlib.metadata import version
from pathlib import Path

from pillars.ground.settings import SETTINGS

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
# The longest number that every column and LIMIT of the database takes.
_DIGITS = 18
_MANY = 10_000
_HIGHEST_PORT = 65_535
_MOST_DAYS = 366
_STATES = ("available", "running", "succeeded", "failed", "dead", "cancelled", "skipped", "missed")

_OUTCOMES = (
    "enqueued", "buffered", "running", "succeeded", "failed", "dead", "cancelled", "skipped",
    "missed", "withdrawn",
)  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; each command's `run` names the function to import and call."""
    parser = argparse.ArgumentParser(
        prog="pillars",
        description="Distributed cron and job queue on one Postgres.",
        epilog=f"{_EXAMPLES}\n{_ENVIRONMENT}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pillars {version('pillars')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_processes(commands)
    _add_status(commands)
    _add_schedules(commands)
    _add_jobs(commands)
    _add_queues(commands)
    return parser


Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse gives the type no public name


def _command(
    commands: Commands[argparse.ArgumentParser],
    name: str,
    run: str,
    description: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=description,
        description=description[0].upper() + description[1:] + ".",
    )
    parser.set_defaults(run=f"pillars.cli.{run}")
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where `pillars up` keeps its database (PILLARS_DATA_DIR, default .pillars)",
    )
    return parser


def _add_processes(commands: Commands[argparse.ArgumentParser]) -> None:
    up = _command(commands, "up", "run:up", "run everything on this machine; Ctrl-C stops it")
    up.add_argument("--cron", type=_count, default=3, metavar="N", help="crons (default 3)")
    up.add_argument("--workers", type=_count, default=2, metavar="N", help="workers (default 2)")
    server = _command(commands, "server", "run:server", "answer web requests")
    worker = _command(commands, "worker", "run:worker", "run jobs")
    cron = _command(commands, "cron", "run:cron", "put jobs on the queue by schedule")
    for parser in (up, server):
        parser.add_argument("--port", type=_port, metavar="N", help="PILLARS_PORT, default 8000")
    for parser in (up, server, worker):
        _app(parser, "the application (PILLARS_APP; `up` runs an example without it)")
    _app(cron, "the application with schedules in code (PILLARS_APP)")
    for parser in (up, cron):
        _schedules_dir(parser)
    for parser in (up, server, worker, cron):
        parser.add_argument("--host", metavar="ADDRESS", help="PILLARS_HOST, default 127.0.0.1")
    for parser in (worker, cron):
        parser.add_argument(
            "--metrics-port",
            type=_port,
            metavar="N",
            help="PILLARS_METRICS_PORT, default any free port",
        )
    for parser in (server, worker, cron):
        parser.add_argument("--name", help="PILLARS_NAME, default host-role-pid")
    worker.add_argument("--concurrency", type=_count, metavar="N", help="jobs at once, default 20")
    worker.add_argument("--processes", type=_count, metavar="N", help="processes, default 1")
    worker.add_argument("--queues", metavar="A,B", help="queues to serve, default all")
    _command(commands, "migrate", "run:migrate", "bring the database's schema up to date")
    _command(commands, "dsn", "run:dsn", "print the URL of the running embedded database")


def _add_status(commands: Commands[argparse.ArgumentParser]) -> None:
    status = _command(commands, "status", "status:status", "show members, shares and queues")
    _json(status)
    status.add_argument("--watch", action="store_true", help="go on showing it, live")


def _add_schedules(commands: Commands[argparse.ArgumentParser]) -> None:
    group = commands.add_parser("schedules", help="check, compare, show and steer schedules")
    verbs = group.add_subparsers(title="verbs", metavar="VERB", required=True)
    check = _command(verbs, "check", "files:check", "check the files; all faults at once")
    diff = _command(verbs, "diff", "diff:diff", "show what applying the files would change")
    apply = _command(verbs, "apply", "files:apply", "apply the files now, whatever is in force")
    spread = _command(verbs, "spread", "spread:show_spread", "show in which minutes jobs start")
    spread.add_argument(
        "--date", type=_date, metavar="YYYY-MM-DD", help="default: 24 hours from this one on"
    )
    spread.add_argument("--timezone", default="UTC", metavar="ZONE", help="of day and hours")
    spread.add_argument(
        "--installed", action="store_true", help="what is in force, not what the files say"
    )
    spread.add_argument("--svg", type=_svg, metavar="FILE", help="draw the picture there as well")
    for parser in (check, diff, apply, spread):
        _schedules_dir(parser)
        _app(parser, "the application with schedules in code (PILLARS_APP)")
    diff.add_argument(
        "--days", type=_days, default=7, metavar="N", help="how far to look ahead (default 7)"
    )
    _add_imports(verbs)
    listing = _command(verbs, "list", "schedules:listing", "list schedules")
    listing.add_argument("--soonest", action="store_true", help="those that fire next, first")
    show = _command(verbs, "show", "schedules:show", "show one schedule")
    upcoming = _command(verbs, "next", "schedules:upcoming", "show when a schedule fires next")
    history = _command(
        verbs, "history", "schedules:history", "show what became of its ticks, and why"
    )
    history.add_argument("--outcome", choices=_OUTCOMES, help="only ticks that came to this")
    fire = _command(verbs, "fire", "schedules:fire", "run a schedule's job now, once")
    fire.add_argument(
        "--force", action="store_true", help="whatever runs already (not as `overlap` says)"
    )
    pause = _command(verbs, "pause", "schedules:pause", "stop a schedule from firing")
    resume = _command(verbs, "resume", "schedules:resume", "let a paused schedule go on from now")
    remove = _command(verbs, "remove", "schedules:remove", "delete a schedule")
    backfill = _add_backfill(verbs)
    for parser in (show, upcoming, history, fire, backfill, pause, resume, remove):
        parser.add_argument("schedule", metavar="NAME")
    upcoming.add_argument("-n", type=_few, default=10, help="how many (default 10)")
    for parser in (listing, history):
        parser.add_argument("--limit", type=_count, default=50, metavar="N", help="default 50")
    for parser in (check, diff, apply, spread, listing, show, upcoming, history, fire, backfill):
        _json(parser)


def _add_backfill(verbs: Commands[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = _command(verbs, "backfill", "backfill:run", "enqueue past ticks of a schedule")
    moment = "2026-12-01T09:00:00, with an offset or in the schedule's time zone"
    parser.add_argument("--from", dest="start", required=True, metavar="TIME", help=moment)
    parser.add_argument(
        "--to", dest="end", required=True, metavar="TIME", help="the same; ticks before it"
    )
    parser.add_argument(
        "--pace", type=float, default=10.0, metavar="N", help="jobs a second (default 10)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only count")
    return parser


def _add_imports(verbs: Commands[argparse.ArgumentParser]) -> None:
    group = verbs.add_parser("import", help="write a file from another scheduler's schedules")
    sources = group.add_subparsers(title="sources", metavar="SOURCE", required=True)
    crontab = _command(sources, "crontab", "imports:crontab", "import a crontab")
    kubernetes = _command(sources, "kubernetes", "imports:kubernetes", "import CronJob manifests")
    celery = _command(sources, "celery", "imports:celery", "import a beat_schedule")
    for parser, job in ((crontab, "shell"), (kubernetes, "container")):
        parser.add_argument("file", type=Path, metavar="FILE", help="- reads standard input")
        parser.add_argument("--job", default=job, metavar="TYPE", help=f"default {job}")
    crontab.add_argument("--system", action="store_true", help="the sixth field is a user")
    celery.add_argument(
        "source", metavar="SOURCE", help="FILE.py, FILE.py:ATTRIBUTE or MODULE:ATTRIBUTE"
    )
    celery.add_argument(
        "--execute", action="store_true", help="import the module, which runs its code"
    )
    for parser in (crontab, kubernetes, celery):
        parser.add_argument("--timezone", metavar="ZONE", help="where the source names none")
        parser.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
        parser.add_argument("--force", action="store_true", help="overwrite the file")
        parser.add_argument(
            "--strict", action="store_true", help="exit code 1 if anything was not translated"
        )


def _add_jobs(commands: Commands[argparse.ArgumentParser]) -> None:
    group = commands.add_parser("jobs", help="enqueue, list, show, retry and cancel jobs")
    verbs = group.add_subparsers(title="verbs", metavar="VERB", required=True)
    enqueue = _command(verbs, "enqueue", "jobs:put", "put a job on the queue")
    enqueue.add_argument("type", help="the job type, as in `log` or `mail.welcome`")
    enqueue.add_argument("--args", default="{}", metavar="JSON", help="the handler's arguments")
    enqueue.add_argument("--queue", metavar="NAME", help="default: default")
    enqueue.add_argument("--priority", type=int, default=0, help="lower first (default 0)")
    enqueue.add_argument("--delay", metavar="DURATION", help="not before, as in 90s or 2h")
    enqueue.add_argument("--run-at", metavar="TIME", help="not before, as in 2026-12-01T09:00:00Z")
    enqueue.add_argument("--max-attempts", type=_count, metavar="N")
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
        "--concurrency-limit", type=_count, metavar="N", help="or so many of them at a time"
    )
    enqueue.add_argument(
        "--expires-in", metavar="DURATION", help="cancelled unless started so soon after its time"
    )
    listing = _command(verbs, "list", "jobs:listing", "list jobs, newest first")
    listing.add_argument("--state", choices=_STATES)
    listing.add_argument("--type")
    listing.add_argument("--queue")
    listing.add_argument("--schedule")
    listing.add_argument("--before", type=_count, metavar="ID", help="go on from this job")
    listing.add_argument("--limit", type=_count, default=50, metavar="N", help="default 50")
    show = _command(verbs, "show", "jobs:show", "show one job with its error")
    retry = _command(verbs, "retry", "jobs:retry", "run dead, cancelled or failed jobs again")
    retry.add_argument("id", type=_count, metavar="ID", nargs="?")
    retry.add_argument(
        "--state",
        choices=("dead", "cancelled", "failed"),
        help="the newest of these, not one by ID",
    )
    retry.add_argument("--type", help="of these only this type")
    retry.add_argument("--queue", help="of these only this queue")
    retry.add_argument("--limit", type=_few, default=100, metavar="N", help="default 100")
    cancel = _command(verbs, "cancel", "jobs:cancel", "cancel a job that waits or runs")
    for parser in (show, cancel):
        parser.add_argument("id", type=_count, metavar="ID")
    for parser in (enqueue, listing, show):
        _json(parser)


def _add_queues(commands: Commands[argparse.ArgumentParser]) -> None:
    group = commands.add_parser("queues", help="list, limit, pause and resume queues")
    verbs = group.add_subparsers(title="verbs", metavar="VERB", required=True)
    _json(_command(verbs, "list", "queues:listing", "list queues with their depth and limits"))
    limit = _command(verbs, "limit", "queues:limit", "set a queue's limits, over all workers")
    pause = _command(verbs, "pause", "queues:pause", "start no more jobs of a queue")
    resume = _command(verbs, "resume", "queues:resume", "start a queue's jobs again")
    for parser in (limit, pause, resume):
        parser.add_argument("queue", metavar="NAME")
    limit.add_argument("--concurrency", type=_count, metavar="N", help="so many run at a time")
    limit.add_argument("--rate", metavar="RATE", help="so many start: 10/s, 100/m or 5000/h")
    limit.add_argument(
        "--burst",
        type=_count,
        metavar="N",
        help="so many start at once after a lull (default: those of 0.1 s)",
    )
    limit.add_argument("--none", action="store_true", help="lift the limits")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def _app(parser: argparse.ArgumentParser, words: str) -> None:
    parser.add_argument("--app", metavar="MODULE:APP", help=words)


def _schedules_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--schedules-dir",
        type=Path,
        metavar="DIR",
        help="the schedule files (PILLARS_SCHEDULES_DIR, default schedules)",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > _DIGITS or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _few(text: str) -> int:
    if not text.isdecimal() or len(text) > _DIGITS or not 1 <= int(text) <= _MANY:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_MANY:,}")
    return int(text)


def _days(text: str) -> int:
    if not text.isdecimal() or len(text) > _DIGITS or not 1 <= int(text) <= _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_MOST_DAYS}")
    return int(text)


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date like 2026-10-25") from None


def _svg(text: str) -> Path:
    if not text.endswith(".svg"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end with .svg")
    return Path(text)


def _port(text: str) -> int:
    if not text.isdecimal() or len(text) > _DIGITS or int(text) > _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)
