"""What a handler returns, as it is stored with its job."""

from __future__ import annotations

import json
from typing import NamedTuple

from pillars.worker.failures import storable

LONGEST_RESULT = 64 * 1024


class Result(NamedTuple):
    """A return value as JSON text; or, where it cannot be stored, the sentence that says why."""

    text: str | None = None
    error: str | None = None


def encode_result(value: object) -> Result:
    """Encode what a handler returned; None is no result."""
    if value is None:
        return Result()
    try:
        # Encoded as PostgreSQL will read it: lone surrogates are no text.
        text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
    except Exception as error:  # noqa: BLE001 - a mapping of the application's may raise anything
        return _not_stored(f"it is not JSON: {error}")
    if size > LONGEST_RESULT:
        return _not_stored(f"it takes {size:,} bytes as JSON, the limit is {LONGEST_RESULT:,}")
    # Without escaped backslashes, which may stand before a u0000 that means just that.
    if "\\u0000" in text.replace("\\\\", ""):
        return _not_stored("it holds a NUL character, which PostgreSQL cannot store")
    return Result(text)


def _not_stored(why: str) -> Result:
    return Result(error=storable(f"the result was not stored: {why}"))
