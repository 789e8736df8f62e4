"""What an answer holds: the dataclasses of the other rooms as JSON, and their JSON schemas.

Both are derived from the same fields, so an answer and its description cannot differ.
"""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints
from uuid import UUID

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def to_json(value: object) -> Any:  # noqa: ANN401 - JSON is any of six things
    """Return a value as what `json.dumps` takes; timestamps as RFC 3339 in UTC."""
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, UUID):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value


def schema_of(record: type[DataclassInstance]) -> dict[str, Any]:
    """Return the JSON schema of a dataclass as `to_json` writes it."""
    # The rooms import these for their annotations alone.
    hints = get_type_hints(record, localns={"datetime": datetime, "UUID": UUID})
    return {
        "type": "object",
        "required": list(hints),
        "properties": {name: _schema(hint) for name, hint in hints.items()},
    }


def listing(key: str, record: type[DataclassInstance], *, paged: bool = False) -> dict[str, Any]:
    """Return the schema of `{key: [record, ...]}`; where it is paged, with `next`."""
    properties: dict[str, Any] = {key: {"type": "array", "items": schema_of(record)}}
    if paged:
        properties["next"] = {
            "type": ["string", "null"],
            "description": "the next page, relative to this server; null on the last",
        }
    return {"type": "object", "required": list(properties), "properties": properties}


def rfc3339(moment: datetime) -> str:
    """Return an instant like 2026-12-01T09:00:00.000000Z."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _schema(hint: Any) -> dict[str, Any]:  # noqa: ANN401 - a type, or what typing makes of one
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        (plain,) = (part for part in get_args(hint) if part is not type(None))
        schema = _schema(plain)
        return {**schema, "type": [schema["type"], "null"]}
    if origin is list:
        return {"type": "array", "items": _schema(get_args(hint)[0])}
    if hint is Any:
        return {}
    if origin is dict:
        return {"type": "object"}
    if isinstance(hint, type) and is_dataclass(hint):
        return schema_of(hint)
    return dict(_PRIMITIVES[hint])


_PRIMITIVES: dict[Any, dict[str, str]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    datetime: {"type": "string", "format": "date-time"},
    UUID: {"type": "string", "format": "uuid"},
}
