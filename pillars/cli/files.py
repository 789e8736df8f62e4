"""`pillars schedules`: check, apply."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pillars.cli.context import settings_from, with_database
from pillars.cli.output import print_json
from pillars.cli.progress import progress_bar
from pillars.cron.book import ScheduleConflictError
from pillars.cron.code import load_set
from pillars.cron.progress import nobody
from pillars.cron.reconciler import apply_now
from pillars.cron.texts import ScheduleFilesError
from pillars.loading import AppLoadError, load_app

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from pillars.cron.files import ScheduleSet
    from pillars.cron.progress import Told
    from pillars.ground.settings import Settings


def check(arguments: argparse.Namespace) -> int:
    """Check files and code; faults on stderr, exit code 1 when there are any."""
    settings = settings_from(arguments)
    directory = settings.schedules_dir
    code, faults = None, []
    try:
        code = load_code(settings)
    except AppLoadError as error:
        faults += str(error).splitlines()
    try:
        with progress_bar() as told:
            found = load_set(directory, code, told)
        if not faults:
            _refuse_nothing(found, directory)
    except ScheduleFilesError as error:
        faults += [str(fault) for fault in error.faults]
    except ScheduleConflictError as error:
        faults.append(str(error))
    if faults:
        if arguments.json:
            print_json({"ok": False, "faults": faults})
        else:
            print("\n".join(faults), file=sys.stderr)
        return 1
    if arguments.json:
        print_json(
            {
                "ok": True,
                "files": list(found.files),
                "schedules": len(found.schedules),
                "in_code": len(found.code or ()),
                "digest": found.digest,
                "warnings": [str(lint) for lint in found.lints],
            },
        )
        return 0
    for lint in found.lints:
        print(f"warning: {lint}")
    in_code = f" ({len(found.code):,} in code)" if found.code else ""
    print(f"all right; schedules: {len(found.schedules):,}{in_code}, files: {len(found.files):,}")
    return 0


def apply(arguments: argparse.Namespace) -> int:
    """Apply files and code now, whatever is in force."""
    settings = settings_from(arguments)
    with progress_bar() as told:
        found = load_to_apply(settings, told)
        event = with_database(
            arguments,
            lambda database: apply_now(database, found, settings.schedules_revision, "apply", told),
        )
    if arguments.json:
        print_json(event)
    else:
        print(
            f"{event.total:,} schedules in force: {event.added:,} added, "
            f"{event.changed:,} changed, {event.removed:,} removed",
        )
    return 0


def load_code(settings: Settings) -> ScheduleSet | None:
    """Return the schedules in code of the application, None where none is set.

    Raises:
        AppLoadError: it cannot be imported, or a schedule in it cannot be used.
    """
    return load_app(settings.app).schedules() if settings.app else None


def load_to_apply(settings: Settings, told: Told = nobody) -> ScheduleSet:
    """Return the set of directory and application that may be applied; `told` hears of files read.

    Raises:
        AppLoadError: the application cannot be used.
        ScheduleFilesError: with all faults of all files.
        ScheduleConflictError: there is no file, and nothing in code.
    """
    found = load_set(settings.schedules_dir, load_code(settings), told)
    _refuse_nothing(found, settings.schedules_dir)
    return found


def _refuse_nothing(found: ScheduleSet, directory: Path) -> None:
    if not found.files and not found.schedules:
        raise ScheduleConflictError(
            f"{directory} holds no .yaml file: applying it would delete every schedule; "
            "to mean just that, put in a file with `schedules: []`",
        )
