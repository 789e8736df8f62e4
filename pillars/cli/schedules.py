"""`pillars schedules`: list, show, next, history, fire, pause, resume, remove."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pillars.cli.context import with_database
from pillars.cli.output import print_json, print_record, print_table
from pillars.cron import book, life
from pillars.cron.changes import database_time
from pillars.cron.definition import when_in_words
from pillars.cron.history import history as occurrences
from pillars.cron.outcomes import Outcome
from pillars.cron.upcoming import upcoming as next_ticks

if TYPE_CHECKING:
    import argparse

    from pillars.cron.book import ScheduleRecord
    from pillars.cron.history import Occurrence
    from pillars.db.database import Database

# More than one that fires each second has in the longest look-ahead.
_MOST_AHEAD = 100


def listing(arguments: argparse.Namespace) -> int:
    """List schedules."""
    records = with_database(
        arguments,
        lambda database: book.list_schedules(
            database,
            limit=arguments.limit,
            soonest=arguments.soonest,
        ),
    )
    if arguments.json:
        print_json(records)
        return 0
    full = len(records) == arguments.limit
    print_table(
        ("NAME", "WHEN", "JOB", "STATE", "LAST FIRE (UTC)", "NEXT FIRE (UTC)", "FROM"),
        [
            (
                record.name,
                when_in_words(record.definition),
                record.job,
                _state(record),
                record.last_fire_at,
                record.next_fire_at if record.enabled else None,
                record.origin or record.source,
            )
            for record in records
        ],
        "no schedules: put a YAML file into the schedules directory",
    )
    if full:
        print(f"the first {len(records):,}; --limit shows more")
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Show one schedule."""
    record = _record(arguments)
    if arguments.json:
        print_json(record)
        return 0
    print_record(
        [
            ("name", record.name),
            ("when", when_in_words(record.definition)),
            ("job", record.job),
            ("queue", record.queue),
            ("state", _state(record)),
            ("last fire", record.last_fire_at),
            ("next fire", record.next_fire_at if record.enabled else None),
            ("slot", record.slot),
            ("source", record.origin or record.source),
            ("updated", record.updated_at),
            ("definition", record.definition),
        ],
    )
    return 0


def upcoming(arguments: argparse.Namespace) -> int:
    """Show when a schedule fires next, in its own time zone and in UTC."""
    found = with_database(
        arguments, lambda database: next_ticks(database, arguments.schedule, arguments.n)
    )
    if arguments.json:
        print_json(found.fires)
        return 0
    record, zone = found.schedule, ZoneInfo(found.timezone)
    rows = [(f"{t.astimezone(zone):%a %Y-%m-%d %H:%M:%S %z}", t) for t in found.fires]
    print_table((found.timezone, "UTC"), rows, f"{record.name} does not fire any more")
    if not record.enabled:
        print(f"{record.name} is {_state(record)}: none of these will be fired")
    return 0


def history(arguments: argparse.Namespace) -> int:
    """Show what became of the last ticks of a schedule, and why."""
    outcome = Outcome(arguments.outcome) if arguments.outcome else None
    # Of a schedule that fires each second the newest ticks are not due yet, and say nothing.
    due_alone = outcome is None and not arguments.ahead

    async def work(database: Database) -> tuple[list[Occurrence], list[Occurrence]]:
        name, limit = arguments.schedule, arguments.limit
        if not due_alone:
            return await occurrences(database, name, limit, outcome=outcome), []
        async with database.connection() as connection:
            now = datetime.fromtimestamp(await database_time(connection), UTC)
        # Two reads: a look-ahead that is edited again and again holds withdrawn ticks without end.
        newest = await occurrences(database, name, _MOST_AHEAD)
        ahead = [
            each for each in newest if each.fire_at >= now and each.outcome != Outcome.WITHDRAWN
        ]
        return await occurrences(database, name, limit, before=now), ahead

    found, ahead = with_database(arguments, work)
    if arguments.json:
        print_json(found)
        return 0
    print_table(
        ("TICK (UTC)", "UNTIL", "TICKS", "OUTCOME", "STARTED", "LATE", "ENDED", "JOB", "WHY"),
        [
            (
                each.fire_at,
                each.fire_until,
                each.ticks,
                each.outcome,
                each.started_at,
                "" if each.lateness is None else f"{each.lateness:.3f} s",
                each.finished_at if each.started_at else None,
                each.job_id and str(each.job_id),
                each.reason or _first_line(each.error),
            )
            for each in found
        ],
        f"{arguments.schedule} has {'not fired yet' if outcome is None else f'no tick {outcome}'}",
    )
    if ahead:
        last = ahead[0].fire_at.astimezone(UTC)
        print(f"and {len(ahead)} enqueued ahead of their time, until {last:%X}; --ahead shows them")
    return 0


def fire(arguments: argparse.Namespace) -> int:
    """Run a schedule's job now."""
    fired = with_database(
        arguments,
        lambda database: life.fire(database, arguments.schedule, force=arguments.force),
    )
    if arguments.json:
        print_json(fired)
    elif fired.skipped:
        print(
            f"{arguments.schedule} is not fired: {fired.reason}; --force lets it run all the same"
        )
    else:
        print(f"job {fired.job_id} is on queue {fired.queue}: {fired.reason}")
    return 1 if fired.skipped else 0


def pause(arguments: argparse.Namespace) -> int:
    """Stop a schedule."""
    with_database(arguments, lambda database: life.pause(database, arguments.schedule))
    print(f"{arguments.schedule} is paused; its jobs that were not due are taken back")
    return 0


def resume(arguments: argparse.Namespace) -> int:
    """Let a paused schedule go on."""

    async def work(database: Database) -> ScheduleRecord:
        await life.resume(database, arguments.schedule)
        return await book.show_schedule(database, arguments.schedule)

    record = with_database(arguments, work)
    if record.enabled:
        print(f"{record.name} goes on from now; the time it was paused is not caught up")
    else:
        print(f"{record.name} is not paused, but its definition says `enabled: false`")
    return 0


def remove(arguments: argparse.Namespace) -> int:
    """Delete a schedule."""
    with_database(arguments, lambda database: life.remove(database, arguments.schedule))
    print(f"{arguments.schedule} is removed")
    return 0


def _record(arguments: argparse.Namespace) -> ScheduleRecord:
    return with_database(
        arguments,
        lambda database: book.show_schedule(database, arguments.schedule),
    )


def _state(record: ScheduleRecord) -> str:
    if record.paused_at is not None:
        return "paused"
    if not record.enabled:
        return "disabled"
    return "active" if record.next_fire_at else "done"


def _first_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[0][:100] if lines else ""
