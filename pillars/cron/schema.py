"""The JSON Schema of schedule files, for editors: derived from the same fields as the loader.

`python -m pillars.cron.schema` writes it to `schedules.schema.json`, which is published with the
package; a test holds that the two agree. Draft 7 is what yaml-language-server understands best.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pillars.cron.fields import DEFAULTS, SCHEDULE
from pillars.cron.reading import TOP_KEYS

if TYPE_CHECKING:
    from pillars.cron.fields import Field

PUBLISHED: Final = Path(__file__).with_name("schedules.schema.json")


def schedules_schema() -> dict[str, Any]:
    """Return the schema of a schedule file."""
    one_schedule = _object(SCHEDULE) | {"oneOf": _ONE_WAY, "dependencies": {"phase": ["every"]}}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Pillars schedules",
        "type": ["object", "null"],
        "properties": {
            "defaults": _object(DEFAULTS, required=False)
            | {"type": ["object", "null"], "description": TOP_KEYS["defaults"]},
            "schedules": {
                "type": ["array", "null"],
                "description": TOP_KEYS["schedules"],
                "items": {"$ref": "#/definitions/schedule"},
            },
        },
        "additionalProperties": False,
        "definitions": {"schedule": one_schedule},
    }


def schedule_schema(*, named: bool) -> dict[str, Any]:
    """Return the schema of one schedule that stands by itself, in the draft of OpenAPI 3.1.

    Args:
        named: whether it has to say its own name.
    """
    required = [each.name for each in SCHEDULE if each.required and (named or each.name != "name")]
    more = {"required": required, "oneOf": _ONE_WAY, "dependentRequired": {"phase": ["every"]}}
    return _object(SCHEDULE) | more


def published_text() -> str:
    """Return what the published file holds."""
    return json.dumps(schedules_schema(), indent=2) + "\n"


def _object(fields: tuple[Field, ...], *, required: bool = True) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {each.name: _property(each) for each in fields},
        "additionalProperties": False,
    }
    if required and (names := [each.name for each in fields if each.required]):
        # `defaults` may supply any of them but the name, which the schema cannot follow.
        schema["required"] = [name for name in names if name == "name"]
    return schema


def _property(each: Field) -> dict[str, Any]:
    schema = _object(each.kind) if isinstance(each.kind, tuple) else dict(each.kind.schema)
    schema["description"] = each.doc
    if each.default is not None and not isinstance(each.kind, tuple):
        schema["default"] = each.default
    return schema


_ONE_WAY: Final = [{"required": [way]} for way in ("cron", "every", "at")]

if __name__ == "__main__":
    PUBLISHED.write_text(published_text())
