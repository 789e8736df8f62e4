"""A directory of schedule files, validated as a whole: all faults of all files at once, or a set.

`load_directory` reads `*.yaml` and `*.yml` of one directory, not of those below it, and passes over
hidden files, so that a directory mounted by Kubernetes works. Nothing is returned unless all is
well: half a set of schedules is worse than yesterday's.
"""

from __future__ import annotations

import gc
import hashlib
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pillars.cron.elsewhere import Elsewhere
from pillars.cron.progress import nobody
from pillars.cron.reading import FileReading, Report, read_file
from pillars.cron.texts import FileFault, ScheduleFilesError, digest_of_texts, schedule_files

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pillars.cron.definition import Schedule
    from pillars.cron.progress import Told

# Files of more bytes, some 40,000 schedules, are read by several processes.
_LARGE: Final = 4 << 20
_MOST_PROCESSES: Final = 8


@dataclass(frozen=True)
class ScheduleSet:
    """All schedules of a directory, and of an application if one is known, sorted by name.

    `digest` depends on the definitions and on which are in code, not on files, order or comments.
    `origins` tells where each is defined, `billing.yaml:12`; `lints` what is legal but often a
    slip; `files` the names of the files read; `texts` is a digest of what was read; `code` are the
    names of those defined in code, None where no application is known.
    """

    schedules: tuple[Schedule, ...]
    digest: str
    origins: Mapping[str, str]
    lints: tuple[FileFault, ...] = ()
    files: tuple[str, ...] = ()
    texts: str = ""
    code: frozenset[str] | None = None


def load_directory(path: Path, told: Told = nobody) -> ScheduleSet:
    """Read and validate all schedule files of a directory; one without any gives an empty set.

    `told` hears how many files have been read.

    Raises:
        ScheduleFilesError: with all faults of all files, or because the directory cannot be read.

    """
    files = schedule_files(path)
    found = _Found()
    for number, reading in enumerate(_read(files), 1):
        found.add(reading)
        told("read", number, len(files))
    if found.faults:
        raise ScheduleFilesError(sorted(found.faults, key=_place_in_files))
    schedules = tuple(sorted(found.schedules, key=lambda each: each.name))
    return ScheduleSet(
        schedules,
        digest_of(schedules),
        found.origins,
        tuple(found.lints),
        tuple(file.name for file in files),
        digest_of_texts(found.texts),
    )


def digest_of(schedules: Iterable[Schedule], code: Collection[str] = ()) -> str:
    """Return a hex digest of definitions, whatever their order; `code` are names of those there."""
    prints = sorted(
        f"code {each.fingerprint()}" if each.name in code else each.fingerprint()
        for each in schedules
    )
    return hashlib.blake2b("".join(prints).encode(), digest_size=16).hexdigest()


def _place_in_files(fault: FileFault) -> tuple[str, int, int]:
    return fault.file, fault.line or 0, fault.column or 0


def _read(files: Sequence[Path]) -> Iterator[FileReading]:
    """Yield what is in each file, in their order."""
    count = min(len(files), os.cpu_count() or 1, _MOST_PROCESSES)
    if _bytes(files) < _LARGE:
        yield from map(read_file, files)
        return
    # They hold no cycles, and to look for some among a million takes longer than to read them.
    gc.disable()
    try:
        with ExitStack() as stack:
            others = [
                stack.enter_context(
                    Elsewhere(read_file, [(file,) for file in files[n::count]])
                ).ask()
                for n in range(1, count)
            ]
            for number, file in enumerate(files):
                mine = number % count == 0
                yield read_file(file) if mine else others[number % count - 1].answer()
    finally:
        gc.freeze()
        gc.enable()


def _bytes(files: Iterable[Path]) -> int:
    try:
        return sum(file.stat().st_size for file in files)
    except OSError:
        # It is found missing when it is read.
        return 0


@dataclass(slots=True)
class _Found:
    """What has been found so far, in all files."""

    schedules: list[Schedule] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)
    faults: list[FileFault] = field(default_factory=list)
    lints: list[FileFault] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)

    def add(self, reading: FileReading) -> None:
        self.faults += reading.faults
        self.lints += reading.lints
        self.texts.append(reading.text)
        report = Report(str(reading.file), self.faults)
        for schedule, line, place in reading.schedules:
            here = f"{reading.file.name}:{line}"
            earlier = self.origins.setdefault(schedule.name, here)
            if earlier is here:
                self.schedules.append(schedule)
            else:
                message = f"the name {schedule.name!r} is already used in {earlier}"
                report.add(place, message)
