"""A directory of schedule files, validated as a whole: all faults of all files at once, or a set.

`load_directory` reads `*.yaml` and `*.yml` of one directory, not of those below it, and passes over
hidden files, so that a directory mounted by Kubernetes works. Nothing is returned unless all is
well: half a set of schedules is worse than yesterday's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pillars.cron.definition import Schedule, parse_schedule
from pillars.cron.expression import parse_cron
from pillars.cron.faults import Fault, ScheduleError
from pillars.cron.fields import DEFAULTS, NOT_IN_DEFAULTS, read_value, unknown_keys
from pillars.cron.progress import nobody
from pillars.cron.texts import (
    FileFault,
    ScheduleFilesError,
    add_text,
    new_digest,
    schedule_files,
    text_of,
)
from pillars.cron.yaml_marks import MOST_FAULTS, Mark, MarkedList, MarkedMapping, read_yaml
from pillars.ground.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from pillars.cron.progress import Told

TOP_KEYS: Final = {
    "defaults": "Keys that hold for each schedule of this file which does not give its own.",
    "schedules": "The schedules.",
}


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
    reading = _Reading()
    files = schedule_files(path)
    for number, file in enumerate(files, 1):
        reading.read_file(file)
        told("read", number, len(files))
    if reading.faults:
        raise ScheduleFilesError(sorted(reading.faults, key=_place_in_files))
    schedules = tuple(sorted(reading.schedules, key=lambda each: each.name))
    return ScheduleSet(
        schedules,
        digest_of(schedules),
        reading.origins,
        tuple(reading.lints),
        tuple(file.name for file in files),
        reading.texts.hexdigest(),
    )


def _place_in_files(fault: FileFault) -> tuple[str, int, int]:
    return fault.file, fault.line or 0, fault.column or 0


def digest_of(schedules: Iterable[Schedule], code: Collection[str] = ()) -> str:
    """Return a hex digest of definitions, whatever their order; `code` are names of those there."""
    prints = sorted(
        f"code {each.fingerprint()}" if each.name in code else each.fingerprint()
        for each in schedules
    )
    return hashlib.blake2b("".join(prints).encode(), digest_size=16).hexdigest()


@dataclass(slots=True)
class _Defaults:
    """The defaults of a file; keys with faults are put aside, to be reported once."""

    raw: MarkedMapping = field(default_factory=lambda: MarkedMapping(Mark(1, 1)))
    faulty: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Reading:
    """What has been found so far."""

    schedules: list[Schedule] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)
    faults: list[FileFault] = field(default_factory=list)
    lints: list[FileFault] = field(default_factory=list)
    texts: hashlib.blake2b = field(default_factory=new_digest)

    def read_file(self, file: Path) -> None:
        try:
            text = text_of(file)
        except ScheduleFilesError as error:
            self.faults += error.faults
            return
        add_text(self.texts, file, text)
        document = read_yaml(text)
        report = _Report(str(file), self.faults)
        for mark, message in document.faults:
            report.add_yaml(mark, message)
        if document.root is not None:
            self._read_root(file, document.root, report)

    def _read_root(self, file: Path, root: object, report: _Report) -> None:
        if not isinstance(root, MarkedMapping):
            mark = root.mark if isinstance(root, MarkedList) else Mark(1, 1)
            report.add(mark, "a file begins with 'schedules:', and its list below")
            return
        for key in root:
            if key not in TOP_KEYS:
                near = did_you_mean(key[:60], TOP_KEYS)
                report.add(root.place(key), f"unknown key {key!r}{near}")
        defaults = _read_defaults(root, report)
        listed = root.get("schedules")
        if listed is None:
            return
        if not isinstance(listed, MarkedList):
            report.add(root.place("schedules"), "'schedules' must be a list; begin each with '- '")
            return
        for index, raw in enumerate(listed):
            if report.full:
                return
            if isinstance(raw, MarkedMapping):
                self._read_schedule(file, raw, defaults, report)
            else:
                report.add(listed.place(index), "a schedule must be a mapping: '- name: …'")

    def _read_schedule(
        self, file: Path, raw: MarkedMapping, defaults: _Defaults, report: _Report
    ) -> None:
        try:
            schedule = parse_schedule({**defaults.raw, **raw})
        except ScheduleError as error:
            for fault in error.faults:
                if fault.key not in defaults.faulty or fault.key in raw:
                    report.add(_place(fault.key, raw, defaults.raw), fault.message)
            return
        here = f"{file.name}:{raw.mark.line}"
        earlier = self.origins.setdefault(schedule.name, here)
        if earlier is not here:
            message = f"the name {schedule.name!r} is already used in {earlier}"
            report.add(_place("name", raw, defaults.raw), message)
            return
        self.schedules.append(schedule)
        if schedule.cron_text is None:
            return
        for lint in parse_cron(schedule.cron_text, name=schedule.name).lints:
            mark = _place("cron", raw, defaults.raw)
            self.lints.append(FileFault(str(file), mark.line, mark.column, f"cron: {lint}"))


class _Report:
    """Adds the faults of one file: what YAML says of a place goes before what the keys say."""

    def __init__(self, file: str, faults: list[FileFault]) -> None:
        self._file = file
        self._faults = faults
        self._seen: set[tuple[Mark, str]] = set()
        self._settled: set[Mark] = set()

    @property
    def full(self) -> bool:
        """Whether nobody would read further faults."""
        return len(self._seen) >= MOST_FAULTS

    def add_yaml(self, mark: Mark, message: str) -> None:
        self.add(mark, message)
        self._settled.add(mark)

    def add(self, mark: Mark, message: str) -> None:
        if self.full or mark in self._settled or (mark, message) in self._seen:
            return
        self._seen.add((mark, message))
        last = len(self._seen) == MOST_FAULTS
        shown = f"{message} (and more: checking stopped here)" if last else message
        self._faults.append(FileFault(self._file, mark.line, mark.column, shown))


def _read_defaults(root: MarkedMapping, report: _Report) -> _Defaults:
    found = root.get("defaults")
    if found is None:
        return _Defaults()
    if not isinstance(found, MarkedMapping):
        report.add(root.place("defaults"), "'defaults' must be a mapping")
        return _Defaults()
    defaults = _Defaults(found)
    known = {each.name: each for each in DEFAULTS}
    faults = [fault for fault in unknown_keys(found, DEFAULTS) if fault.key not in NOT_IN_DEFAULTS]
    for key in list(found):
        if key in NOT_IN_DEFAULTS:
            faults.append(Fault(key, f"{key!r} cannot be a default"))
        elif key in known:
            faults += read_value(known[key], found[key])[1]
    for fault in faults:
        report.add(_place(fault.key, found, found), fault.message)
        defaults.faulty.add(str(fault.key))
    # A fault of a default is told once, not for each schedule.
    for key in {fault.split(".")[0] for fault in defaults.faulty}:
        found.pop(key, None)
    return defaults


def _place(key: str | None, raw: MarkedMapping, defaults: MarkedMapping) -> Mark:
    """Return where a dotted key stands, as deep as it can be followed."""
    if key is None:
        return raw.mark
    at: object = raw if key.split(".")[0] in raw else defaults
    mark = raw.mark
    # A key with dots of its own is one nobody knows.
    for part in (key,) if isinstance(at, MarkedMapping) and key in at else key.split("."):
        if not isinstance(at, MarkedMapping) or part not in at:
            break
        mark = at.place(part)
        at = at[part]
    return mark
