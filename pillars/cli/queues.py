"""`pillars queues`: list, limit, pause, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pillars.cli.context import with_database
from pillars.cli.output import QUEUE_HEADINGS, print_json, print_table, queue_rows
from pillars.ground.errors import UsageError
from pillars.queue.desk import list_queues, show_queue
from pillars.queue.limits import (
    QueueLimitError,
    QueueLimits,
    limit_queue,
    parse_rate,
    pause_queue,
)

if TYPE_CHECKING:
    import argparse

    from pillars.db.database import Database
    from pillars.queue.desk import QueueRecord


def listing(arguments: argparse.Namespace) -> int:
    """List queues with their depth and limits."""
    queues = with_database(arguments, list_queues)
    if arguments.json:
        print_json(queues)
    else:
        print_table(QUEUE_HEADINGS, queue_rows(queues), "no queue holds jobs or has limits")
    return 0


def limit(arguments: argparse.Namespace) -> int:
    """Set how many jobs of a queue run at a time and start a second, or lift that."""
    limits = QueueLimits(
        arguments.queue,
        concurrency=arguments.concurrency,
        rate=_rate(arguments.rate),
        burst=arguments.burst,
    )
    given = limits != QueueLimits(arguments.queue)
    if given == arguments.none:
        raise UsageError("give --concurrency, --rate or both, or --none to lift the limits")
    print(_after(arguments, limits))
    return 0


def pause(arguments: argparse.Namespace) -> int:
    """Start no more jobs of a queue."""
    _pause(arguments, paused=True)
    print(f"queue {arguments.queue!r} is paused: jobs that run go on, no other is started")
    return 0


def resume(arguments: argparse.Namespace) -> int:
    """Start a queue's jobs again."""
    _pause(arguments, paused=False)
    print(f"queue {arguments.queue!r} goes on")
    return 0


def _after(arguments: argparse.Namespace, limits: QueueLimits) -> str:
    async def work(database: Database) -> QueueRecord:
        await limit_queue(database, limits)
        return await show_queue(database, limits.name)

    try:
        queue = with_database(arguments, work)
    except QueueLimitError as error:
        raise UsageError(str(error)) from None
    return f"queue {queue.queue!r}: {queue.limits_in_words() or 'no limits'}"


def _pause(arguments: argparse.Namespace, *, paused: bool) -> None:
    try:
        with_database(
            arguments,
            lambda database: pause_queue(database, arguments.queue, paused=paused),
        )
    except QueueLimitError as error:
        raise UsageError(str(error)) from None


def _rate(text: str | None) -> float | None:
    try:
        return None if text is None else parse_rate(text)
    except ValueError as error:
        raise UsageError(f"--rate {text}: {error}") from None
