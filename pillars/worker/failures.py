"""How a failed attempt is told to people: one line that says it, then the end of the traceback."""

from __future__ import annotations

import inspect
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pillars.worker.registry import Handler

LONGEST_ERROR = 4096
_LONGEST_SUMMARY = 500
_FRAMES = 12


def error_text(error: BaseException) -> str:
    """Return at most LONGEST_ERROR characters: what happened on the first line, then where."""
    summary = _one_line(traceback.format_exception_only(error)[-1])
    trace = "".join(traceback.format_exception(error, limit=-_FRAMES))
    room = LONGEST_ERROR - len(summary) - len("\n...")
    if len(trace) > room:
        # The end of a traceback is where the error is.
        trace = "..." + trace[-room:]
    return storable(f"{summary}\n{trace.rstrip()}")


def misfit(handler: Handler, args: object) -> str | None:
    """Return why a handler cannot be called with these args, None when it can."""
    if not isinstance(args, dict):
        return f"the args of job type {handler.type!r} are not a JSON object"
    try:
        signature = inspect.signature(handler.function)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(**args)
    except TypeError as error:
        takes = _one_line(str(signature))
        return f"the args of job type {handler.type!r} do not fit: {error}; it takes {takes}"
    return None


def storable(text: str) -> str:
    """Return the text as PostgreSQL can store it: bounded, without NUL and lone surrogates."""
    text = text[:LONGEST_ERROR].replace("\x00", "\\x00")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _one_line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= _LONGEST_SUMMARY else f"{line[:_LONGEST_SUMMARY]}..."
