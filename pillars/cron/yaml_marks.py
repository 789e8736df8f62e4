"""YAML to plain values that remember where they stood, in bounded time and memory.

Built from libyaml's events, so that nothing is expanded: aliases, the fuel of YAML bombs, are
refused where they occur.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import yaml

from pillars.cron.yaml_scalars import SUSPECT, resolve

DEEPEST: Final = 50
# Ten thousand schedules with every key have 40,000; this bounds memory to some 50 MB.
MOST_COLLECTIONS: Final = 200_000
# A file with more faults is no schedule file.
MOST_FAULTS: Final = 1000


class Mark(NamedTuple):
    """A place in a file, both counted from 1."""

    line: int
    column: int


class MarkedMapping(dict[str, Any]):
    """A mapping that knows where it and its keys begin."""

    __slots__ = ("_marks", "_start")

    def __init__(self, start: Any) -> None:  # noqa: ANN401 (libyaml's mark has no public type)
        """Begin empty, at a mark of libyaml's."""
        super().__init__()
        self._start = start
        self._marks: dict[str, Any] = {}

    @property
    def mark(self) -> Mark:
        """Where it begins."""
        return _mark(self._start)

    def place(self, key: str) -> Mark:
        """Return where a key begins, or the mapping if it has no such key."""
        return _mark(self._marks.get(key, self._start))

    def put(self, key: str, value: object, start: Any) -> None:  # noqa: ANN401 (as above)
        """Add a key that begins at a mark of libyaml's."""
        self[key] = value
        # Kept as it is: most marks are never looked at.
        self._marks[key] = start


class MarkedList(list[Any]):
    """A list that knows where it and its items begin."""

    __slots__ = ("_marks", "_start")

    def __init__(self, start: Any) -> None:  # noqa: ANN401 (as above)
        """Begin empty, at a mark of libyaml's."""
        super().__init__()
        self._start = start
        self._marks: list[Any] = []

    @property
    def mark(self) -> Mark:
        """Where it begins."""
        return _mark(self._start)

    def place(self, index: int) -> Mark:
        """Return where an item begins."""
        return _mark(self._marks[index])

    def put(self, value: object, start: Any) -> None:  # noqa: ANN401 (as above)
        """Add an item that begins at a mark of libyaml's."""
        self.append(value)
        self._marks.append(start)


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
_BARE_CRON: Final = re.compile(r"\bcron[\"']?\s*:\s+(?=[*@%?`&])")


_TOP: Final = Mark(1, 1)
# How much of a text a message repeats.
_SHORT: Final = 40


class _EndOfReadingError(Exception):
    """Nothing sensible can follow."""


class _Frame:
    """A collection under construction; `key` is the mapping key that waits for its value."""

    __slots__ = ("into", "key", "key_start")

    def __init__(self, into: MarkedMapping | MarkedList) -> None:
        self.into = into
        self.key: str | None = None
        self.key_start: Any = None

    @property
    def wants_key(self) -> bool:
        return self.key is None and isinstance(self.into, MarkedMapping)


class _Builder:
    """Builds values from events; recursion is a stack of frames, so depth is under control."""

    def __init__(self) -> None:
        self.root: Any = None
        self.faults: list[tuple[Mark, str]] = []
        self._frames: list[_Frame] = []
        self._documents = 0
        self._collections = 0

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
        if event.anchor is not None or event.tag is not None:
            self._refuse_decorations(event)
        frame = self._frames[-1] if self._frames else None
        if frame is not None and frame.wants_key:
            self._take_key(frame, event)
            return
        value: Any = event.value
        if event.implicit[0] and (not value or value[0] in SUSPECT):
            value, surprise = resolve(value)
            if surprise:
                # Faults of a value are shown at its key, if it has one.
                at_key = frame is not None and frame.key is not None
                start = frame.key_start if frame is not None and at_key else event.start_mark
                self._fault(start, surprise)
        self._put(value, event)

    def _take_key(self, frame: _Frame, event: yaml.ScalarEvent) -> None:
        key: str = event.value
        if key == "<<" and event.implicit[0]:
            self._fault(event.start_mark, "merge keys (<<) are not supported")
        frame.key, frame.key_start = key, event.start_mark
        if key in frame.into and isinstance(frame.into, MarkedMapping):
            line = frame.into.place(key).line
            self._fault(event.start_mark, f"the key {key!r} is already given in line {line}")

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        if self._frames and self._frames[-1].wants_key:
            self._stop(event, "a key must be text")
        if len(self._frames) >= DEEPEST:
            self._stop(event, f"is nested more than {DEEPEST} deep")
        self._collections += 1
        if self._collections > MOST_COLLECTIONS:
            self._stop(event, "holds too many mappings and lists; spread it over several files")
        self._refuse_decorations(event)
        opened: MarkedMapping | MarkedList
        if isinstance(event, yaml.MappingStartEvent):
            opened = MarkedMapping(event.start_mark)
        else:
            opened = MarkedList(event.start_mark)
        self._put(opened, event)
        self._frames.append(_Frame(opened))

    def _put(self, value: object, event: yaml.Event) -> None:
        if not self._frames:
            self.root = value
            return
        frame = self._frames[-1]
        if isinstance(frame.into, MarkedList):
            frame.into.put(value, event.start_mark)
        elif frame.key is not None:
            frame.into.put(frame.key, value, frame.key_start)
            frame.key = None

    def _refuse_decorations(self, event: yaml.NodeEvent) -> None:
        if event.anchor is not None:
            self._fault(event.start_mark, "anchors (&) are not supported")
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._fault(event.start_mark, f"tags are not supported: {tag[:_SHORT]}")

    def _stop(self, event: yaml.Event, message: str) -> None:
        self._fault(event.start_mark, message)
        raise _EndOfReadingError

    def _fault(self, start: Any, message: str) -> None:  # noqa: ANN401 (as above)
        self.faults.append((_mark(start), message))
        if len(self.faults) >= MOST_FAULTS:
            self.faults.append((_mark(start), "and more; reading stopped here"))
            raise _EndOfReadingError


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


def _mark(start: Any) -> Mark:  # noqa: ANN401 (as above)
    return Mark(start.line + 1, start.column + 1)


def _mark_at(text: str, position: int) -> Mark:
    line_start = text.rfind("\n", 0, position) + 1
    return Mark(text.count("\n", 0, position) + 1, position - line_start + 1)
