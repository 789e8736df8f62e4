"""One schedule file: its schedules with their places, or its faults, all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from pillars.cron.definition import Schedule, parse_schedule
from pillars.cron.expression import parse_cron
from pillars.cron.faults import Fault, ScheduleError
from pillars.cron.fields import DEFAULTS, NOT_IN_DEFAULTS, read_value, unknown_keys
from pillars.cron.texts import FileFault, ScheduleFilesError, digest_of_text, text_of
from pillars.cron.yaml_marks import MOST_FAULTS, Mark, MarkedList, MarkedMapping, read_yaml
from pillars.ground.errors import did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

TOP_KEYS: Final = {
    "defaults": "Keys that hold for each schedule of this file which does not give its own.",
    "schedules": "The schedules.",
}


class Placed(NamedTuple):
    """A schedule, the line it begins in, and where its name stands."""

    schedule: Schedule
    line: int
    name: Mark


@dataclass(slots=True)
class FileReading:
    """What was found in a file; `text` is a digest of it."""

    file: Path
    text: bytes = b""
    schedules: list[Placed] = field(default_factory=list)
    faults: list[FileFault] = field(default_factory=list)
    lints: list[FileFault] = field(default_factory=list)


def read_file(file: Path) -> FileReading:
    """Read one file, with all its faults."""
    reading = FileReading(file)
    try:
        text = text_of(file)
    except ScheduleFilesError as error:
        reading.faults += error.faults
        return reading
    reading.text = digest_of_text(file, text)
    document = read_yaml(text)
    report = Report(str(file), reading.faults)
    for mark, message in document.faults:
        report.add_yaml(mark, message)
    if document.root is not None:
        _read_root(reading, document.root, report)
    return reading


class Report:
    """Adds the faults of one file: what YAML says of a place goes before what the keys say."""

    def __init__(self, file: str, faults: list[FileFault]) -> None:
        """Add to these faults."""
        self._file = file
        self._faults = faults
        self._seen: set[tuple[Mark, str]] = set()
        self._settled: set[Mark] = set()

    @property
    def full(self) -> bool:
        """Whether nobody would read further faults."""
        return len(self._seen) >= MOST_FAULTS

    def add_yaml(self, mark: Mark, message: str) -> None:
        """Add what is wrong with the file as YAML."""
        self.add(mark, message)
        self._settled.add(mark)

    def add(self, mark: Mark, message: str) -> None:
        """Add a fault, if nobody has said it or something more basic about the place."""
        if self.full or mark in self._settled or (mark, message) in self._seen:
            return
        self._seen.add((mark, message))
        last = len(self._seen) == MOST_FAULTS
        shown = f"{message} (and more: checking stopped here)" if last else message
        self._faults.append(FileFault(self._file, mark.line, mark.column, shown))


@dataclass(slots=True)
class _Defaults:
    """The defaults of a file; keys with faults are put aside, to be reported once."""

    raw: MarkedMapping = field(default_factory=lambda: MarkedMapping(Mark(1, 1)))
    faulty: set[str] = field(default_factory=set)


def _read_root(reading: FileReading, root: object, report: Report) -> None:
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
            _read_schedule(reading, raw, defaults, report)
        else:
            report.add(listed.place(index), "a schedule must be a mapping: '- name: …'")


def _read_schedule(
    reading: FileReading, raw: MarkedMapping, defaults: _Defaults, report: Report
) -> None:
    try:
        schedule = parse_schedule({**defaults.raw, **raw})
    except ScheduleError as error:
        for fault in error.faults:
            if fault.key not in defaults.faulty or fault.key in raw:
                report.add(_place(fault.key, raw, defaults.raw), fault.message)
        return
    # Here, for a large set is read by several processes.
    schedule.fingerprint()
    reading.schedules.append(Placed(schedule, raw.mark.line, _place("name", raw, raw)))
    if schedule.cron_text is None:
        return
    for lint in parse_cron(schedule.cron_text, name=schedule.name).lints:
        mark = _place("cron", raw, defaults.raw)
        reading.lints.append(FileFault(str(reading.file), mark.line, mark.column, f"cron: {lint}"))


def _read_defaults(root: MarkedMapping, report: Report) -> _Defaults:
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
