"""`pillars jobs`: enqueue, list, show, retry, cancel."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

from pillars.cli.context import settings_from, with_database
from pillars.cli.output import print_json, print_record, print_table
from pillars.ground.errors import UsageError, did_you_mean
from pillars.ground.events import nobody
from pillars.ground.settings import duration
from pillars.queue import desk
from pillars.queue.enqueue import enqueue_alone
from pillars.queue.jobs import JobError, NewJob, check_job, queue_of
from pillars.queue.states import JobState
from pillars.worker.builtin import register_builtins
from pillars.worker.registry import Registry

if TYPE_CHECKING:
    import argparse

    from pillars.ground.settings import Settings


def put(arguments: argparse.Namespace) -> int:
    """Put one job on the queue."""
    job = NewJob(
        arguments.type,
        _args(arguments.args),
        queue=arguments.queue,
        priority=arguments.priority,
        run_at=_instant(arguments.run_at),
        delay=_seconds("--delay", arguments.delay),
        max_attempts=arguments.max_attempts,
        timeout=_seconds("--timeout", arguments.timeout),
        unique_key=arguments.unique_key,
        unique_for=_seconds("--unique-for", arguments.unique_for),
        concurrency_key=arguments.concurrency_key,
        concurrency_limit=arguments.concurrency_limit,
        expires_in=_seconds("--expires-in", arguments.expires_in),
    )
    try:
        check_job(job)
    except JobError as error:
        raise UsageError(str(error)) from None
    settings = settings_from(arguments)
    registry = _registry(settings)
    job = registry.at_home(job)

    placed = with_database(arguments, lambda database: enqueue_alone(database, [job], nobody))
    (job_id,) = placed.ids
    if arguments.json:
        print_json({"id": job_id, "enqueued": bool(placed.inserted)})
    elif placed.inserted:
        print(f"job {job_id} is on the queue {queue_of(job)!r}")
    else:
        print(f"nothing enqueued: job {job_id} holds the unique key")
    if registry.get(job.type) is None:
        _tell_unknown(job.type, registry, settings.app)
    return 0


def listing(arguments: argparse.Namespace) -> int:
    """List jobs, newest first."""
    jobs = with_database(
        arguments,
        lambda database: desk.list_jobs(
            database,
            state=JobState(arguments.state) if arguments.state else None,
            type=arguments.type,
            queue=arguments.queue,
            schedule=arguments.schedule,
            before=arguments.before,
            limit=arguments.limit,
        ),
    )
    if arguments.json:
        print_json(jobs)
        return 0
    print_table(
        ("ID", "TYPE", "STATE", "QUEUE", "ATTEMPT", "SCHEDULE", "RUN AT (UTC)", "ERROR"),
        [
            (
                str(job.id),
                job.type,
                job.state,
                job.queue,
                job.attempt,
                job.schedule,
                job.run_at,
                _last_line(job.error or job.reason),
            )
            for job in jobs
        ],
        "no jobs",
    )
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Show one job."""
    job = with_database(arguments, lambda database: desk.show_job(database, arguments.id))
    if arguments.json:
        print_json(job)
    else:
        print_record(list(asdict(job).items()))
    return 0


def retry(arguments: argparse.Namespace) -> int:
    """Make a job that ended badly available again, or many."""
    one, many = arguments.id is not None, arguments.state is not None
    if one == many or (one and (arguments.type or arguments.queue)):
        raise UsageError("give the ID of one job, or the --state of many, as in --state dead")
    if one:
        with_database(arguments, lambda database: desk.retry_job(database, arguments.id))
        print(f"job {arguments.id} is available again")
        return 0
    retried, left = with_database(
        arguments,
        lambda database: desk.retry_jobs(
            database,
            state=JobState(arguments.state),
            type=arguments.type,
            queue=arguments.queue,
            limit=arguments.limit,
        ),
    )
    print(f"{retried:,} {'job is' if retried == 1 else 'jobs are'} available again")
    if left:
        print(f"{left:,} were left: other jobs hold their unique keys, or they changed meanwhile")
    return 0


def cancel(arguments: argparse.Namespace) -> int:
    """Cancel a job that waits, or ask its worker to stop it."""
    state = with_database(
        arguments,
        lambda database: desk.cancel_job(database, arguments.id, "cancelled by command"),
    )
    if state == "running":
        print(f"job {arguments.id} runs: its worker was asked to stop it")
    else:
        print(f"job {arguments.id} is cancelled")
    return 0


def _registry(settings: Settings) -> Registry:
    """Return the job types of the application, of Pillars alone where none is known here."""
    if settings.app:
        from pillars.loading import load_app  # noqa: PLC0415 - costly, and rarely needed

        return load_app(settings.app).registry
    registry = Registry()
    register_builtins(registry)
    return registry


def _tell_unknown(type_: str, registry: Registry, app: str | None) -> None:
    """Say on stderr that nobody here knows the type; a worker of another application may."""
    near = did_you_mean(type_, registry.names())
    if app:
        print(f"pillars: warning: {app} has no job type {type_!r}{near}", file=sys.stderr)
    elif near:
        print(f"pillars: {type_!r} is no type of Pillars' own{near}", file=sys.stderr)


def _args(text: str) -> dict[str, object]:
    try:
        args = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UsageError(f"--args is not JSON ({why}): write --args '{{\"key\": 1}}'") from None
    if not isinstance(args, dict):
        raise UsageError("--args is not a JSON object: write --args '{\"key\": 1}'")
    return args


def _seconds(flag: str, text: str | None) -> float | None:
    try:
        return None if text is None else duration(text)
    except ValueError as error:
        raise UsageError(f"{flag} {text}: {error}") from None


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UsageError(
            f"--run-at {text}: write it like 2026-12-01T09:00:00Z or 2026-12-01T09:00:00+01:00",
        )
    return moment


def _last_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[-1][:100] if lines else ""
