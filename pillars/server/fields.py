"""What a request may hold: each field is read by one function and described by one JSON schema.

A reader takes a JSON value (or, for a query parameter, its text) and returns what the queue wants;
it raises ReadError with a sentence. All faults of an object are gathered, none hides another.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pillars.ground.errors import did_you_mean
from pillars.server.problems import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_BIGGEST_ID = 2**63 - 1
_HALF_A_PAIR = "holds half a surrogate pair, which is no Unicode text"
# RFC 3339: unlike ISO 8601 at large it always has seconds and an offset.
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)",
    re.ASCII,
)


class ReadError(ValueError):
    """A value is not what a field takes; the message goes on after the field's name."""


@dataclass(frozen=True, slots=True)
class Field:
    """A key of an object or a query parameter.

    Attributes:
        schema: JSON schema of a value; what is optional may also be null.
        read: returns the value; raises ReadError with what it must be.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    read: Callable[[Any], Any]
    required: bool = False


def read_object(value: object, fields: Iterable[Field], faults: list[Fault]) -> dict[str, Any]:
    """Return the fields that are given and not null; add every fault, pointing from this object."""
    if not isinstance(value, dict):
        faults.append(Fault(f"must be an object, not {kind_of(value)}", pointer=""))
        return {}
    known = {field.name: field for field in fields}
    found: dict[str, Any] = {}
    for name, content in value.items():
        field = known.get(name)
        if field is None:
            faults.append(_unknown("key", name, known, pointer=f"/{escape_pointer(name)}"))
        elif content is None and not field.required:
            continue
        else:
            try:
                found[name] = field.read(content)
            except ReadError as error:
                faults.append(Fault(f"{name} {error}", pointer=f"/{name}"))
    faults += [
        Fault(f"{field.name} is missing", pointer=f"/{field.name}")
        for field in known.values()
        if field.required and field.name not in value
    ]
    return found


def read_query(
    pairs: Iterable[tuple[str, str]],
    fields: Iterable[Field],
    faults: list[Fault],
) -> dict[str, Any]:
    """Return the query parameters that are given; add every fault."""
    known = {field.name: field for field in fields}
    found: dict[str, Any] = {}
    for name, text in pairs:
        if name not in known:
            faults.append(_unknown("parameter", name, known, parameter=name[:100]))
        elif name in found:
            faults.append(Fault(f"{name} is given twice", parameter=name))
        else:
            try:
                found[name] = known[name].read(text)
            except ReadError as error:
                faults.append(Fault(f"{name} {error}", parameter=name))
    return found


def object_schema(fields: tuple[Field, ...], **more: object) -> dict[str, Any]:
    """Return the JSON schema of an object with these fields and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [field.name for field in fields if field.required],
        "properties": {field.name: _property(field) for field in fields},
        **more,
    }


def _property(field: Field) -> dict[str, Any]:
    schema = dict(field.schema)
    if not field.required:
        schema["type"] = [schema["type"], "null"]
    return {**schema, "description": field.description}


def text(longest: int, pattern: re.Pattern[str] | None = None) -> Callable[[Any], str]:
    """Return a reader of text that PostgreSQL can store."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ReadError(f"must be a string, not {kind_of(value)}")
        if not 1 <= len(value) <= longest:
            raise ReadError(f"must be 1 to {longest} characters long, not {len(value):,}")
        require_storable(value)
        if pattern is not None and not pattern.fullmatch(value):
            raise ReadError(f"{value!r} is not a name: use letters, digits and _ . : -")
        return value

    return read


def one_of(*words: str) -> Callable[[Any], str]:
    """Return a reader of one of these words."""

    def read(value: object) -> str:
        if value not in words:
            hint = did_you_mean(value, words) if isinstance(value, str) else ""
            raise ReadError(f"must be one of {', '.join(words)}{hint}")
        return str(value)

    return read


def integer(least: int, most: int) -> Callable[[Any], int]:
    """Return a reader of a JSON integer within bounds; 5.0 is one, true and "5" are not."""

    def read(value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            given = value if isinstance(value, float) else kind_of(value)
            raise ReadError(f"must be a whole number, not {given}")
        if not least <= value <= most:
            raise ReadError(f"must be {least} to {most}")
        return value

    return read


def integer_text(least: int, most: int = _BIGGEST_ID) -> Callable[[str], int]:
    """Return a reader of a query parameter that is a whole number."""

    def read(value: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,19}", value) or not least <= int(value) <= most:
            raise ReadError(f"must be a whole number, {least} to {most}")
        return int(value)

    return read


def number(least: float, most: float, unit: str = "") -> Callable[[Any], float]:
    """Return a reader of a number within bounds; `unit` is for the sentences alone."""
    what, unit = (f"number of {unit}", f" {unit}") if unit else ("number", "")

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ReadError(f"must be a {what}, not {kind_of(value)}")
        if not least <= value <= most:
            raise ReadError(f"must be {least:g} to {most:.0f}{unit}")
        return float(value)

    return read


def true_or_false(value: object) -> bool:
    """Read a JSON boolean."""
    if not isinstance(value, bool):
        raise ReadError(f"must be true or false, not {kind_of(value)}")
    return value


def yes_or_no(value: str) -> bool:
    """Read a query parameter that is true or false."""
    if value not in ("true", "false"):
        raise ReadError("must be true or false")
    return value == "true"


def instant(value: object) -> datetime:
    """Read an RFC 3339 timestamp with its offset.

    Raises:
        ReadError: it is none, or its instant is outside the years 1 to 9999 in UTC.
    """
    example = "write it like 2026-12-01T09:00:00Z or 2026-12-01T09:00:00+01:00"
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise ReadError(f"must be an RFC 3339 timestamp with an offset: {example}")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ReadError(f"is no moment that exists: {example}") from None


def array(value: object) -> list[Any]:
    """Read an array of whatever."""
    if not isinstance(value, list):
        raise ReadError(f"must be an array, not {kind_of(value)}")
    return value


def json_object(value: object) -> dict[str, Any]:
    """Read an object of Unicode text; the queue checks the rest."""
    if not isinstance(value, dict):
        raise ReadError(f"must be an object, not {kind_of(value)}")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ReadError(_HALF_A_PAIR) from None
    except RecursionError:
        raise ReadError("is nested too deeply") from None
    return value


def require_storable(value: str) -> None:
    """Refuse what PostgreSQL cannot store in a text.

    Raises:
        ReadError: a NUL character or half a surrogate pair.
    """
    if "\0" in value:
        raise ReadError("holds a NUL character, which PostgreSQL cannot store")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ReadError(_HALF_A_PAIR) from None


def kind_of(value: object) -> str:
    """Return how JSON calls a value's type."""
    if value is None:
        return "null"
    return _KINDS.get(type(value), "something else")


_KINDS = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def escape_pointer(key: str) -> str:
    """Return a key as it stands in a JSON pointer, cut where it is absurdly long."""
    return key[:100].replace("~", "~0").replace("/", "~1")


def _unknown(
    what: str,
    name: str,
    known: Iterable[str],
    *,
    pointer: str | None = None,
    parameter: str | None = None,
) -> Fault:
    known = list(known)
    near = difflib.get_close_matches(name[:100], known, n=1)
    hint = did_you_mean(name[:100], known) or (f": known are {', '.join(known)}" if known else "")
    return Fault(
        f"unknown {what} {name[:100]!r}{hint}",
        pointer=pointer,
        parameter=parameter,
        did_you_mean=near[0] if near else None,
    )
