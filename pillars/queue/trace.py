"""W3C trace context: a `traceparent` names a trace and the span in it that caused what follows.

https://www.w3.org/TR/trace-context/. Of its two fields the one that identifies is kept with a job;
`tracestate`, which belongs to vendors, is not.
"""

from __future__ import annotations

import re

_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})"
    r"-(?P<rest>(?!0{32})(?P<trace_id>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})"
    r"(?P<more>-.*)?",
)


def read_traceparent(text: str) -> str | None:
    """Return what a `traceparent` says in the version we know, None when it is not one.

    A later version than 00 may have more fields; those we know mean the same.
    """
    found = _TRACEPARENT.fullmatch(text)
    if found is None or (found["version"] == "00" and found["more"] is not None):
        return None
    return f"00-{found['rest']}"


def trace_id(traceparent: str | None) -> str | None:
    """Return the id of the trace; None where there is none, or what there is says nothing."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent is not None else None
    return found["trace_id"] if found else None
