"""`pillars schedules import`: schedules of crontabs, Kubernetes and Celery as a file of ours."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pillars.cli.output import write_file
from pillars.cron.imports.celery import read_beat_schedule
from pillars.cron.imports.celery_source import SCHEDULES, read_celery
from pillars.cron.imports.crontab import read_crontab
from pillars.cron.imports.draft import ImportSourceError
from pillars.cron.imports.kubernetes import read_kubernetes
from pillars.cron.imports.writer import reads_back, write_yaml
from pillars.cron.texts import LARGEST_FILE
from pillars.ground.errors import PillarsError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from pillars.cron.imports.draft import Imported

_BUILT_IN: Final = frozenset({"noop", "log", "http"})
_FEW: Final = 10


class UnreadableOutputError(PillarsError):
    """What was to be written would not read back as it was meant: please report this."""


def crontab(arguments: argparse.Namespace) -> int:
    """Import a crontab."""
    imported = _named(
        arguments.file,
        lambda text: read_crontab(
            text, job=arguments.job, timezone=arguments.timezone, system=arguments.system
        ),
    )
    return _finish(imported, arguments, str(arguments.file))


def kubernetes(arguments: argparse.Namespace) -> int:
    """Import CronJob manifests."""
    imported = _named(
        arguments.file,
        lambda text: read_kubernetes(text, job=arguments.job, timezone=arguments.timezone),
    )
    return _finish(imported, arguments, str(arguments.file))


def celery(arguments: argparse.Namespace) -> int:
    """Import a beat_schedule; the code is run only with --execute."""
    module, _, attribute = arguments.source.partition(":")
    if arguments.execute:
        imported = _executed(module, attribute, arguments.timezone)
    else:
        imported = _named(
            _source_file(module),
            lambda text: read_celery(
                text, attribute=attribute or None, timezone=arguments.timezone
            ),
        )
    return _finish(imported, arguments, arguments.source)


def _text_of(file: Path) -> str:
    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(LARGEST_FILE + 1)
        else:
            with file.open("rb") as opened:
                data = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ImportSourceError(f"{file}: cannot be read: {error.strerror}") from None
    if len(data) > LARGEST_FILE:
        raise ImportSourceError(f"{file}: is larger than {LARGEST_FILE >> 20} MB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ImportSourceError(f"{file}: is not UTF-8; save it as UTF-8") from None


def _source_file(module: str) -> Path:
    """Find a file, or a module's source on the search path, without importing any package."""
    if module.endswith(".py") or module == "-":
        return Path(module)
    inner = Path(*module.split("."))
    for root in ("", *sys.path):
        for found in (Path(root, f"{inner}.py"), Path(root, inner, "__init__.py")):
            if found.is_file():
                return found
    raise ImportSourceError(
        f"{module}: there is no such module; name a file.py or module:attribute"
    )


def _executed(module: str, attribute: str, timezone: str | None) -> Imported:
    """Run the user's code, as asked, and read the mapping or the app it holds."""
    if module.endswith(".py"):
        raise UsageError("--execute takes MODULE:ATTRIBUTE, not a file")
    sys.path.insert(0, "")
    try:
        found: object = importlib.import_module(module)
        for name in filter(None, attribute.split(".")):
            found = getattr(found, name)
    except Exception as error:  # noqa: BLE001 - their code may raise anything
        raise ImportSourceError(f"{module}: {type(error).__name__}: {error}") from None
    finally:
        sys.path.remove("")
    conf = getattr(found, "conf", found)
    if not isinstance(conf, Mapping) or hasattr(conf, "beat_schedule"):
        names = (name for name in SCHEDULES if hasattr(conf, name))
        timezone = timezone or getattr(conf, "timezone", None)
        conf = getattr(conf, next(names, ""), None)
    if not isinstance(conf, Mapping):
        raise ImportSourceError(f"{module}:{attribute} holds no beat_schedule")
    return read_beat_schedule(conf, timezone=None if timezone is None else str(timezone))


def _named(file: Path, read: Callable[[str], Imported]) -> Imported:
    """Read a file; what is wrong with it names it."""
    text = _text_of(file)
    try:
        return read(text)
    except ImportSourceError as error:
        raise ImportSourceError(f"{file}: {error}") from None


def _finish(imported: Imported, arguments: argparse.Namespace, source: str) -> int:
    text = write_yaml(imported, source)
    if not reads_back(text, imported):
        raise UnreadableOutputError
    output: Path | None = arguments.output
    if output is None:
        print(text, end="")
    else:
        write_file(output, text, overwrite=arguments.force)
    notes = _summarise(imported, output)
    return int(bool(notes) and arguments.strict)


def _summarise(imported: Imported, output: Path | None) -> int:
    """Say on stderr what was translated and what was not; return how many notes there are."""
    notes = len(imported.notes)
    for note in imported.notes:
        print(f"note: {note}", file=sys.stderr)
    for draft in imported.drafts:
        notes += len(draft.notes)
        what = "not translated: " if draft.keys is None else ""
        for note in draft.notes:
            print(f"{draft.origin}: {draft.name}: {what}{note}", file=sys.stderr)
    written = f"; written to {output}" if output is not None else ""
    found = f"schedules: {imported.translated:,} of {len(imported.drafts):,}"
    print(f"{found}, notes: {notes:,}{written}", file=sys.stderr)
    jobs = {str(draft.keys["job"]) for draft in imported.drafts if draft.keys is not None}
    if needed := sorted(jobs - _BUILT_IN):
        few = ", ".join(needed[:_FEW]) + (", ..." if len(needed) > _FEW else "")
        print(f"your application must provide the job types: {few}", file=sys.stderr)
    return notes
