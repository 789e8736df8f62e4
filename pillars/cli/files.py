"""`pillars schedules`: check, apply."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pillars.cli.context import settings_from, with_database
from pillars.cli.output import print_json
from pillars.cron.book import ScheduleConflictError
from pillars.cron.files import ScheduleFilesError, load_directory
from pillars.cron.reconciler import apply_now

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from pillars.cron.files import ScheduleSet


def check(arguments: argparse.Namespace) -> int:
    """Check the files; faults on stderr, exit code 1 when there are any."""
    directory = settings_from(arguments).schedules_dir
    try:
        found = load_directory(directory)
    except ScheduleFilesError as error:
        if arguments.json:
            print_json({"ok": False, "faults": [str(fault) for fault in error.faults]})
        else:
            for fault in error.faults:
                print(fault, file=sys.stderr)
        return 1
    if arguments.json:
        print_json(
            {
                "ok": True,
                "files": list(found.files),
                "schedules": len(found.schedules),
                "digest": found.digest,
                "warnings": [str(lint) for lint in found.lints],
            },
        )
        return 0
    for lint in found.lints:
        print(f"warning: {lint}")
    if not found.files:
        print(f"warning: {directory} holds no .yaml file: cron would change nothing")
        return 0
    print(f"all right; schedules: {len(found.schedules):,}, files: {len(found.files):,}")
    return 0


def apply(arguments: argparse.Namespace) -> int:
    """Apply the files now, whatever is in force."""
    settings = settings_from(arguments)
    found = load_to_apply(settings.schedules_dir)
    event = with_database(
        arguments,
        lambda database: apply_now(database, found, settings.schedules_revision, "apply"),
    )
    if arguments.json:
        print_json(event)
    else:
        print(
            f"{event.total} schedules in force: {event.added} added, {event.changed} changed, "
            f"{event.removed} removed",
        )
    return 0


def load_to_apply(directory: Path) -> ScheduleSet:
    """Return the set of a directory that may be applied.

    Raises:
        ScheduleFilesError: with all faults of all files.
        ScheduleConflictError: there is no file.
    """
    found = load_directory(directory)
    if not found.files:
        raise ScheduleConflictError(
            f"{directory} holds no .yaml file: applying it would delete every schedule; "
            "to mean just that, put in a file with `schedules: []`",
        )
    return found
