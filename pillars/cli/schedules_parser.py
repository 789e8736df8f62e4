"""The verbs of `pillars schedules`, with every flag and word of help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pillars.cli.flags import (
    Commands,
    app_flag,
    command,
    count,
    day,
    days,
    directory_flag,
    few,
    json_flag,
    svg,
)
from pillars.cron.outcomes import Outcome

if TYPE_CHECKING:
    import argparse

_OUTCOMES = tuple(outcome.value for outcome in Outcome)


def add_schedules(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add `schedules` and its verbs."""
    group = commands.add_parser("schedules", help="check, compare, show and steer schedules")
    verbs = group.add_subparsers(title="verbs", metavar="VERB", required=True)
    check = command(verbs, "check", "files:check", "check the files; all faults at once")
    diff = command(verbs, "diff", "diff:diff", "show what applying the files would change")
    apply = command(verbs, "apply", "files:apply", "apply the files now, whatever is in force")
    spread = command(verbs, "spread", "spread:show_spread", "show in which minutes jobs start")
    spread.add_argument(
        "--date", type=day, metavar="YYYY-MM-DD", help="default: 24 hours from this hour on"
    )
    spread.add_argument("--timezone", default="UTC", metavar="ZONE", help="of day and hours")
    spread.add_argument(
        "--installed", action="store_true", help="what is in force, not what the files say"
    )
    spread.add_argument("--svg", type=svg, metavar="FILE", help="draw the picture there as well")
    for parser in (check, diff, apply, spread):
        directory_flag(parser)
        app_flag(parser, "the application with schedules in code (PILLARS_APP)")
    diff.add_argument(
        "--days", type=days, default=7, metavar="N", help="how far to look ahead (default 7)"
    )
    _add_imports(verbs)
    listing = command(verbs, "list", "schedules:listing", "list schedules")
    listing.add_argument("--soonest", action="store_true", help="those that fire next, first")
    show = command(verbs, "show", "schedules:show", "show one schedule")
    upcoming = command(verbs, "next", "schedules:upcoming", "show when a schedule fires next")
    history = command(
        verbs, "history", "schedules:history", "show what became of its ticks, and why"
    )
    history.add_argument(
        "--ahead", action="store_true", help="also ticks that are enqueued before their time"
    )
    history.add_argument("--outcome", choices=_OUTCOMES, help="only ticks that came to this")
    fire = command(verbs, "fire", "schedules:fire", "run a schedule's job now, once")
    fire.add_argument(
        "--force", action="store_true", help="whatever runs already (not as `overlap` says)"
    )
    pause = command(verbs, "pause", "schedules:pause", "stop a schedule from firing")
    resume = command(verbs, "resume", "schedules:resume", "let a paused schedule go on from now")
    remove = command(verbs, "remove", "schedules:remove", "delete a schedule")
    backfill = _add_backfill(verbs)
    for parser in (show, upcoming, history, fire, backfill, pause, resume, remove):
        parser.add_argument("schedule", metavar="NAME")
    upcoming.add_argument("-n", type=few, default=10, help="how many (default 10)")
    for parser in (listing, history):
        parser.add_argument("--limit", type=count, default=50, metavar="N", help="default 50")
    for parser in (check, diff, apply, spread, listing, show, upcoming, history, fire, backfill):
        json_flag(parser)


def _add_backfill(verbs: Commands[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = command(verbs, "backfill", "backfill:run", "enqueue past ticks of a schedule")
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
    crontab = command(sources, "crontab", "imports:crontab", "import a crontab")
    kubernetes = command(sources, "kubernetes", "imports:kubernetes", "import CronJob manifests")
    celery = command(sources, "celery", "imports:celery", "import a beat_schedule")
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
