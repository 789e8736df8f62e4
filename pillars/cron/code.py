"""Schedules that are written in code, and how they and the files become one set.

They have the keys of the files and are read by the same definition. One set has one digest, so what
holds for files during a roll-out holds for code: an old replica rolls nothing back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pillars.cron.definition import parse_schedule
from pillars.cron.expression import parse_cron
from pillars.cron.faults import ScheduleError
from pillars.cron.files import ScheduleSet, digest_of, load_directory
from pillars.cron.progress import nobody
from pillars.cron.texts import FileFault, NoDirectoryError, ScheduleFilesError, digest_of_directory
from pillars.ground.errors import PillarsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from pillars.cron.definition import Schedule
    from pillars.cron.progress import Told

F = TypeVar("F", bound="Callable[..., Any]")
# Until it is known which job type a decorated function handles.
_ANY_JOB = {"job": "noop"}


class CodeScheduleError(PillarsError):
    """A schedule in code cannot be used."""


@dataclass(slots=True)
class _Entry:
    """A schedule as it was written; `place` is module and line, then module and function."""

    name: str
    keys: Mapping[str, Any]
    place: str
    function: Callable[..., Any] | None = None


class CodeSchedules:
    """Collects the schedules of one application while its modules are imported."""

    def __init__(self) -> None:
        """Start with none."""
        self._entries: dict[str, _Entry] = {}

    def add(self, name: str, keys: Mapping[str, Any], place: str) -> Callable[[F], F]:
        """Take a schedule; returns the decorator for the function whose jobs it enqueues.

        Args:
            name: unique in code and files.
            keys: those of the files; without `job`, the returned decorator has to be used.
            place: where it is written, for people.

        Raises:
            CodeScheduleError: with every fault of the definition.
        """
        schedule = _parse(place, {**_ANY_JOB, **keys, "name": name})
        if (earlier := self._entries.get(schedule.name)) is not None:
            raise CodeScheduleError(
                f"{place}: the name {name!r} is already used in {earlier.place}",
            )
        entry = self._entries[schedule.name] = _Entry(name, keys, place)

        def decorate(function: F) -> F:
            entry.function = function
            entry.place = f"{function.__module__}:{function.__qualname__}"
            return function

        return decorate

    def read(
        self,
        types_of: Callable[[Callable[..., Any]], Sequence[str]],
        queue_of: Callable[[str], str | None],
    ) -> ScheduleSet:
        """Return all of them, once the application is imported.

        Args:
            types_of: the job types a function handles.
            queue_of: the queue of a job type where it is known: the default.

        Raises:
            CodeScheduleError: with every schedule that has no job type, or no single one.
        """
        faults: list[str] = []
        found: dict[str, tuple[_Entry, Schedule]] = {}
        for entry in self._entries.values():
            try:
                job = entry.keys.get("job") or _job_of(entry, types_of)
                queue = queue_of(job)
                keys = {"job": job} | ({"queue": queue} if queue else {}) | dict(entry.keys)
                schedule = _parse(entry.place, {**keys, "name": entry.name})
            except CodeScheduleError as error:
                faults.append(str(error))
            else:
                found[schedule.name] = entry, schedule
        if faults:
            raise CodeScheduleError("\n".join(faults))
        schedules = tuple(found[name][1] for name in sorted(found))
        return ScheduleSet(
            schedules,
            digest_of(schedules, found.keys()),
            {name: entry.place for name, (entry, _) in found.items()},
            tuple(lint for pair in found.values() for lint in _lints(*pair)),
            code=frozenset(found),
        )


def load_set(directory: Path, code: ScheduleSet | None, told: Told = nobody) -> ScheduleSet:
    """Return the schedules of a directory and of an application as one set.

    Without an application (None) those in code are left alone when the set is applied. With
    schedules in code there need be no directory. `told` hears how many files have been read.

    Raises:
        ScheduleFilesError: with all faults of all files, or names both in a file and in code.
    """
    if code is None:
        return load_directory(directory, told)
    try:
        files = load_directory(directory, told)
    except NoDirectoryError as error:
        if not code.schedules:
            raise
        lints = [
            replace(each, message=f"{each.message}: code alone counts") for each in error.faults
        ]
        return replace(code, lints=(*lints, *code.lints))
    code_names = code.origins.keys()
    if twice := sorted(code_names & files.origins.keys()):
        raise ScheduleFilesError(_used_twice(name, directory, files, code) for name in twice)
    schedules = tuple(sorted((*files.schedules, *code.schedules), key=lambda each: each.name))
    return ScheduleSet(
        schedules,
        digest_of(schedules, code_names),
        {**files.origins, **code.origins},
        (*files.lints, *code.lints),
        files.files,
        _with_code(files.texts, code),
        code.code,
    )


def texts_of_set(directory: Path, code: ScheduleSet | None) -> str | None:
    """Return the `texts` of the set without reading what the files say; None where that fails."""
    texts = digest_of_directory(directory)
    return texts if texts is None or code is None else _with_code(texts, code)


def _with_code(texts: str, code: ScheduleSet) -> str:
    return f"{texts} {code.digest}"


def _parse(place: str, raw: Mapping[str, Any]) -> Schedule:
    try:
        return parse_schedule(raw)
    except ScheduleError as error:
        raise CodeScheduleError(
            "\n".join(f"{place}: schedule {raw['name']!r}: {fault}" for fault in error.faults),
        ) from None


def _job_of(entry: _Entry, types_of: Callable[[Callable[..., Any]], Sequence[str]]) -> str:
    said = f"{entry.place}: schedule {entry.name!r}"
    if entry.function is None:
        raise CodeScheduleError(f"{said} has no job: give `job=`, or decorate a handler with it")
    types = types_of(entry.function)
    if not types:
        raise CodeScheduleError(
            f"{said}: the function handles no job type: put it next to `@app.job`, or give `job=`",
        )
    if len(types) > 1:
        raise CodeScheduleError(
            f"{said}: the function handles {' and '.join(types)}: say which with `job=`",
        )
    return types[0]


def _lints(entry: _Entry, schedule: Schedule) -> Iterable[FileFault]:
    if schedule.cron_text is None:
        return ()
    lints = parse_cron(schedule.cron_text, name=schedule.name).lints
    return [FileFault(entry.place, None, None, f"cron: {lint}") for lint in lints]


def _used_twice(name: str, directory: Path, files: ScheduleSet, code: ScheduleSet) -> FileFault:
    file, _, line = files.origins[name].rpartition(":")
    message = f"the name {name!r} is already used in code, in {code.origins[name]}"
    return FileFault(str(directory / file), int(line), None, message)
