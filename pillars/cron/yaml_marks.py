"""YAML to plain values that remember where they stood, in bounded time and memory.

Built from libyaml's events, so that nothing is expanded: aliases, the fuel of YAML bombs, are
refused where they occur. Of YAML's scalars only those are read that version 1.1 and 1.2 agree on;
`no`, `010` or `1:30` without quotes are faults, for half the readers would take them otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import yaml

DEEPEST: Final = 50
# A file with more faults is no schedule file.
MOST_FAULTS: Final = 1000


class Mark(NamedTuple):
    """A place in a file, both counted from 1."""

    line: int
    column: int


class MarkedMapping(dict[str, Any]):
    """A mapping that knows where it and its keys begin."""

    def __init__(self, mark: Mark) -> None:
        """Begin empty."""
        super().__init__()
        self.mark = mark
        self.marks: dict[str, Mark] = {}


class MarkedList(list[Any]):
    """A list that knows where it and its items begin."""

    def __init__(self, mark: Mark) -> None:
        """Begin empty."""
        super().__init__()
        self.mark = mark
        self.marks: list[Mark] = []


@dataclass(frozen=True, slots=True)
class Document:
    """What a file holds, as far as it could be read, and what is wrong with it as YAML."""

    root: Any
    faults: tuple[tuple[Mark, str], ...]


def read_yaml(text: str) -> Document:
    """Read one YAML document; faults are returned, none is raised. An empty file holds None."""
    if odd := _UNPRINTABLE.search(text):
        place = _mark_at(text, odd.start())
        return Document(None, ((place, f"the character U+{ord(odd[0]):04X} is not text"),))
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            builder.take(event)
    except _EndOfReadingError:
        return Document(None, tuple(builder.faults))
    except yaml.MarkedYAMLError as error:
        return Document(None, _syntax_faults(text, error))
    except yaml.YAMLError as error:
        return Document(None, ((_TOP, f"is not YAML: {error}"),))
    return Document(builder.root, tuple(builder.faults))


_UNPRINTABLE: Final = re.compile(
    r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
_CONSTANTS: Final = (
    dict.fromkeys(("", "~", "null", "Null", "NULL"))
    | dict.fromkeys(("true", "True", "TRUE"), True)
    | dict.fromkeys(("false", "False", "FALSE"), False)
)
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,99})")
_FLOAT: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")
_SURPRISE: Final = re.compile(
    r"(?i:yes|no|on|off)"
    r"|[-+]?[0-9][0-9_]*"  # 010, 1_000, +5
    r"|[-+]?0[xob][0-9a-fA-F_]+"
    r"|[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?"  # 1:30 is 90
    r"|[-+]?([0-9][0-9_]*)?\.[0-9_]*([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?i:inf|nan)"
)
_SUSPECT: Final = frozenset("0123456789+-.~nNtTfFyYoO")
_BARE_CRON: Final = re.compile(r"\bcron[\"']?\s*:\s+(?=[*@%?`&])")


_TOP: Final = Mark(1, 1)


class _EndOfReadingError(Exception):
    """Nothing sensible can follow."""


@dataclass(slots=True)
class _Frame:
    """A collection under construction; `key` is the mapping key that waits for its value."""

    into: MarkedMapping | MarkedList
    key: str | None = None
    key_mark: Mark = _TOP
    # A duplicate's value is read for its faults, then dropped.
    drop: bool = False


class _Builder:
    """Builds values from events; recursion is a stack of frames, so depth is under control."""

    def __init__(self) -> None:
        self.root: Any = None
        self.faults: list[tuple[Mark, str]] = []
        self._frames: list[_Frame] = []
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._take_scalar(event)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._open(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._frames.pop()
        elif isinstance(event, yaml.AliasEvent):
            self._stop(event, "aliases (*) are not supported; put quotes round text that begins so")
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._stop(event, "a second document (---) is not supported; use another file")

    def _take_scalar(self, event: yaml.ScalarEvent) -> None:
        frame = self._frames[-1] if self._frames else None
        if frame is not None and isinstance(frame.into, MarkedMapping) and frame.key is None:
            self._take_key(frame, event)
            return
        self._refuse_decorations(event)
        value: Any = event.value
        if event.implicit[0] and (not value or value[0] in _SUSPECT):
            value, surprise = _resolve(value)
            if surprise:
                self._fault(self._place_of_value(event), surprise)
        self._put(value, event)

    def _take_key(self, frame: _Frame, event: yaml.ScalarEvent) -> None:
        mark, key = _mark_of(event), event.value
        self._refuse_decorations(event)
        if event.implicit[0] and key == "<<":
            self._fault(mark, "merge keys (<<) are not supported")
        earlier = frame.into.marks.get(key) if isinstance(frame.into, MarkedMapping) else None
        if earlier is not None:
            self._fault(mark, f"the key {key!r} is already given in line {earlier.line}")
        frame.key, frame.key_mark, frame.drop = key, mark, earlier is not None

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        mark = _mark_of(event)
        frame = self._frames[-1] if self._frames else None
        if frame is not None and isinstance(frame.into, MarkedMapping) and frame.key is None:
            self._stop(event, "a key must be text")
        if len(self._frames) >= DEEPEST:
            self._stop(event, f"is nested more than {DEEPEST} deep")
        self._refuse_decorations(event)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        opened = MarkedMapping(mark) if is_mapping else MarkedList(mark)
        self._put(opened, event)
        self._frames.append(_Frame(opened))

    def _put(self, value: object, event: yaml.Event) -> None:
        if not self._frames:
            self.root = value
            return
        frame = self._frames[-1]
        if isinstance(frame.into, MarkedList):
            frame.into.append(value)
            frame.into.marks.append(_mark_of(event))
        elif frame.key is not None:
            if not frame.drop:
                frame.into[frame.key] = value
                frame.into.marks[frame.key] = frame.key_mark
            frame.key = None

    def _place_of_value(self, event: yaml.Event) -> Mark:
        """Return where faults of a value are shown: at its key, if it has one."""
        frame = self._frames[-1] if self._frames else None
        return _mark_of(event) if frame is None or frame.key is None else frame.key_mark

    def _refuse_decorations(self, event: yaml.NodeEvent) -> None:
        if event.anchor is not None:
            self._fault(_mark_of(event), "anchors (&) are not supported")
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._fault(_mark_of(event), f"tags are not supported: {tag[:60]}")

    def _stop(self, event: yaml.Event, message: str) -> None:
        self._fault(_mark_of(event), message)
        raise _EndOfReadingError

    def _fault(self, mark: Mark, message: str) -> None:
        self.faults.append((mark, message))
        if len(self.faults) >= MOST_FAULTS:
            self.faults.append((mark, "and more; reading stopped here"))
            raise _EndOfReadingError


def _resolve(text: str) -> tuple[Any, str | None]:
    """Return the value of a scalar without quotes, and what is surprising about it."""
    if text in _CONSTANTS:
        return _CONSTANTS[text], None
    if _INTEGER.fullmatch(text):
        return int(text), None
    if _FLOAT.fullmatch(text):
        return float(text), None
    if _SURPRISE.fullmatch(text):
        return text, _surprise(text)
    return text, None


def _surprise(text: str) -> str:
    word = text.lower()
    if word in {"yes", "on", "no", "off"}:
        truth = "true" if word in {"yes", "on"} else "false"
        return f"{text} means {truth} to YAML; put quotes round it, or write {truth}"
    reading = yaml.safe_load(text) if len(text) < _SHORT else None
    meaning = "" if reading is None or isinstance(reading, str) else f", some read {reading}"
    return f"YAML readers disagree about {text[:_SHORT]}{meaning}; put quotes round it"


_SHORT: Final = 40


def _syntax_faults(text: str, error: yaml.MarkedYAMLError) -> tuple[tuple[Mark, str], ...]:
    """Return what most likely broke the syntax: unquoted cron expressions, all of them, or tabs."""
    lines = text.splitlines()
    bare = [
        (
            Mark(number, match.end() + 1),
            f"put quotes round it: cron: {_quoted(line[match.end() :])}",
        )
        for number, line in enumerate(lines, 1)
        if not line.lstrip().startswith("#") and (match := _BARE_CRON.search(line))
    ]
    if bare:
        return tuple(bare[:MOST_FAULTS])
    place = error.problem_mark or error.context_mark
    if place is None:
        return ((_TOP, f"is not YAML: {error.problem}"),)
    mark = Mark(place.line + 1, place.column + 1)
    line = lines[place.line] if place.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or line[place.column :].startswith("\t"):
        return ((mark, "a tab cannot indent in YAML; use blanks"),)
    return ((mark, f"is not YAML: {error.problem}{_syntax_advice(error.problem or '')}"),)


def _syntax_advice(problem: str) -> str:
    if "mapping values are not allowed" in problem:
        return "; check the indentation, or put quotes round text that holds ': '"
    if "cannot start any token" in problem or "alphabetic or numeric" in problem:
        return "; put quotes round the text"
    return ""


def _quoted(rest: str) -> str:
    return f'"{re.split("[,}#]", rest)[0].strip()[:_SHORT]}"'


def _mark_of(event: yaml.Event) -> Mark:
    start: Any = event.start_mark
    return Mark(start.line + 1, start.column + 1)


def _mark_at(text: str, position: int) -> Mark:
    line_start = text.rfind("\n", 0, position) + 1
    return Mark(text.count("\n", 0, position) + 1, position - line_start + 1)
