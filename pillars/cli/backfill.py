"""`pillars schedules backfill`: jobs for past ticks of a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pillars.cli.context import with_database
from pillars.cli.output import print_json
from pillars.cli.progress import progress_bar
from pillars.cron.backfill import Backfilled, backfill
from pillars.cron.duration import format_duration
from pillars.cron.readers import moment
from pillars.ground.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from datetime import datetime


def run(arguments: argparse.Namespace) -> int:
    """Enqueue the past ticks of a span; a bar on the terminal shows how far it is."""
    start, end = _moment("--from", arguments.start), _moment("--to", arguments.end)
    with progress_bar() as told:
        done = with_database(
            arguments,
            lambda database: backfill(
                database,
                arguments.schedule,
                start,
                end,
                pace=arguments.pace,
                dry_run=arguments.dry_run,
                told=told,
            ),
        )
    if arguments.json:
        print_json(done)
        return 0
    print(_sentence(arguments.schedule, done, dry_run=arguments.dry_run))
    return 0


def _sentence(name: str, done: Backfilled, *, dry_run: bool) -> str:
    span = f"{done.start:%Y-%m-%d %H:%M:%S} to {done.end:%Y-%m-%d %H:%M:%S} UTC"
    if not done.ticks:
        return f"{name} has no tick from {span}"
    would = "would be" if dry_run else "are"
    said = f"{name}, {span}: {done.enqueued:,} of {done.ticks:,} ticks {would} enqueued"
    if done.enqueued < done.ticks:
        said += ", the others have a job"
    if done.takes >= 1:
        said += f"; the last may start in {format_duration(int(done.takes))}"
    return said


def _moment(flag: str, text: str) -> datetime:
    try:
        found: datetime = moment().read(text)
    except ValueError as error:
        raise UsageError(f"{flag} {text!r} {error}") from None
    return found
