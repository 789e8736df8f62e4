"""How a raw value from YAML, JSON or code becomes the value meant: one `Kind` for each sort.

A reader returns the value or raises ValueError with the rest of a sentence that begins with the
key's name: "must be true or false". The schema beside it says the same to an editor.
"""

# ruff: noqa: TRY004 (a wrong type is one more fault of the value; callers catch one error)

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from pillars.cron.duration import LONGEST, PATTERN, parse_duration
from pillars.cron.expression import LONGEST_TEXT
from pillars.cron.zones import zone_names
from pillars.ground.errors import did_you_mean

if TYPE_CHECKING:
    from enum import StrEnum

LONGEST_NAME: Final = 200
LARGEST_ARGS: Final = 65_536
DEEPEST_ARGS: Final = 32
WORD: Final = r"^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}$"
MOMENT: Final = r"^(\d{4}-\d{2}-\d{2})([Tt ](\d{2}:\d{2}(:\d{2})?) ?([Zz]|[+-]\d{2}(:?\d{2})?)?)?$"
_FIRST_YEAR, _LAST_YEAR = 1970, 2999


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of value: how it is read, and how a JSON Schema describes it."""

    read: Callable[[object], Any]
    schema: Mapping[str, Any]


def flag() -> Kind:
    """Return the kind of true and false."""
    return Kind(_flag, {"type": "boolean"})


def integer(low: int, high: int) -> Kind:
    """Return the kind of whole numbers within bounds, both included."""
    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Kind(lambda raw: _integer(low, high, raw), schema)


def duration(least: float, *, whole: bool) -> Kind:
    """Return the kind of durations of at least so many seconds; `whole` seconds are an int."""
    types = ["string", "integer" if whole else "number"]
    schema = {"type": types, "pattern": PATTERN, "minimum": least, "maximum": LONGEST}
    return Kind(lambda raw: _duration(least, raw, whole=whole), schema)


def choice(words: type[StrEnum]) -> Kind:
    """Return the kind of the members of an enumeration."""
    options = {str(option): option for option in words}
    return Kind(lambda raw: _choice(options, raw), {"enum": list(options)})


def schedule_name() -> Kind:
    """Return the kind of printable names."""
    return Kind(
        _schedule_name,
        {"type": "string", "pattern": r"^\S(.*\S)?$", "minLength": 1, "maxLength": LONGEST_NAME},
    )


def word() -> Kind:
    """Return the kind of names of queues and job types."""
    return Kind(_word, {"type": "string", "pattern": WORD})


def cron_text() -> Kind:
    """Return the kind of cron expressions, which `expression` then checks."""
    return Kind(_text, {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT})


def zone() -> Kind:
    """Return the kind of IANA time zones."""
    return Kind(_zone, {"type": "string"})


def moment() -> Kind:
    """Return the kind of times of whole seconds; without an offset they read as naive."""
    return Kind(_moment, {"type": "string", "pattern": MOMENT})


def arguments() -> Kind:
    """Return the kind of JSON objects."""
    return Kind(_arguments, {"type": "object"})


def _flag(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    raise ValueError("must be true or false")


def _integer(low: int, high: int, raw: object) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise ValueError("must be a whole number, without quotes")
    if not low <= raw <= high:
        raise ValueError(f"must be {low} to {high}")
    return raw


def _duration(least: float, raw: object, *, whole: bool) -> float:
    seconds = parse_duration(raw)
    if seconds < least:
        raise ValueError(f"must be at least {least:g}s")
    if not whole:
        return seconds
    if not seconds.is_integer():
        raise ValueError("must be whole seconds")
    return int(seconds)


def _choice(options: Mapping[str, StrEnum], raw: object) -> StrEnum:
    text = _text(raw)
    if text in options:
        return options[text]
    near = did_you_mean(text[:60], options)
    raise ValueError(f"cannot be {text[:60]!r}{near or '; write ' + ', '.join(options)}")


def _text(raw: object) -> str:
    if isinstance(raw, str):
        return raw
    raise ValueError("must be text; put quotes round it")


def _schedule_name(raw: object) -> str:
    text = _text(raw)
    if not 1 <= len(text) <= LONGEST_NAME:
        raise ValueError(f"must have 1 to {LONGEST_NAME} characters, not {len(text)}")
    if text != text.strip():
        raise ValueError("must not begin or end with a blank")
    if not text.isprintable():
        odd = next(char for char in text if not char.isprintable())
        raise ValueError(f"must not contain the character U+{ord(odd):04X}")
    return text


def _word(raw: object) -> str:
    text = _text(raw)
    # fullmatch, because $ would let a final newline pass.
    if re.fullmatch(WORD, text):
        return text
    raise ValueError(
        f"cannot be {text[:60]!r}: write 1 to 128 letters, digits and _ . : -,"
        " beginning with a letter, a digit or _"
    )


def _zone(raw: object) -> str:
    text = _text(raw)
    if text in zone_names():
        return text
    raise ValueError(f"{text[:60]!r} is not an IANA time zone{_near_zone(text[:60])}")


# A slip stands in all schedules of a file as a rule, and there are six hundred zones to look at.
@lru_cache(maxsize=256)
def _near_zone(text: str) -> str:
    spelled = text.title().replace(" ", "_")
    return did_you_mean(text, zone_names()) or did_you_mean(spelled, zone_names())


def _moment(raw: object) -> datetime:
    if isinstance(raw, datetime):
        found = raw
    elif isinstance(raw, date):
        found = datetime.combine(raw, time())
    else:
        found = _moment_from(_text(raw))
    if found.microsecond:
        raise ValueError("must be at a whole second")
    if not _FIRST_YEAR <= found.year <= _LAST_YEAR:
        raise ValueError(f"must lie in the years {_FIRST_YEAR} to {_LAST_YEAR}")
    return found


def _moment_from(text: str) -> datetime:
    if match := re.fullmatch(MOMENT, text, re.ASCII):
        day, _, clock, _, offset, _ = match.groups()
        try:
            return datetime.fromisoformat(f"{day}T{clock or '00:00'}{(offset or '').upper()}")
        except ValueError as error:
            raise ValueError(f"is no time: {error}") from None
    raise ValueError("must be a time like 2026-12-01T09:00:00, with or without +02:00")


def _arguments(raw: object) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise ValueError("must be a mapping of argument names to values")
    plain: dict[str, Any] = _plain(raw, 0)
    size = len(json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode())
    if size > LARGEST_ARGS:
        raise ValueError(f"takes {size} bytes as JSON, the limit is {LARGEST_ARGS}")
    return plain


def _plain(value: object, depth: int) -> Any:  # noqa: ANN401 (JSON)
    """Return a copy of plain JSON types, so that nobody else's hands are on it."""
    if depth > DEEPEST_ARGS:
        raise ValueError(f"is nested more than {DEEPEST_ARGS} deep")
    match value:
        case None | bool():
            return value
        case str():
            return _storable(value)
        case int() | float():
            return _finite(value)
        case Mapping():
            for key in value:
                if not isinstance(key, str):
                    raise ValueError(f"has the key {key!r}; put quotes round it")
            return {_storable(key): _plain(inner, depth + 1) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner, depth + 1) for inner in value]
        case date():
            raise ValueError(f"holds the date {value}; put quotes round it")
        case _:
            raise ValueError(f"holds a {type(value).__name__}, which JSON does not know")


def _storable(text: str) -> str:
    """Refuse what Postgres cannot keep in a jsonb value."""
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text if char > "\ud7ff"):
        raise ValueError("holds a NUL or half a surrogate pair, which Postgres cannot keep")
    return text


def _finite(number: float) -> float:
    if isinstance(number, int):
        if abs(number) >= 10**100:
            raise ValueError("holds a number of more than 100 digits")
    elif not math.isfinite(number):
        raise ValueError(f"holds {number}, which JSON does not know")
    return number
