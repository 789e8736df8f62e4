"""The keys of JSON log lines: one table for the README, to which tests hold the lines."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from pillars.telemetry.wording import worded

if TYPE_CHECKING:
    from pillars.telemetry.wording import Worded

# Of every line.
ALWAYS = ("ts", "level", "logger", "event", "role", "name", "message")
# Of every line that is written while a handler runs.
OF_A_JOB = ("job_id", "type", "queue", "attempt", "schedule", "fire_at", "trace_id")
# Of lines that count what had no line of its own.
OF_COUNTS = {
    "JobsFinished": ("outcome", "count"),
    "TicksFired": ("outcome", "count", "late"),
}
_COUNTED = {
    "JobsFinished": "So many more attempts ended.",
    "TicksFired": "So many more ticks were put on the queue, skipped, missed, or enqueued in their "
    "owners' place, by then up to `late` seconds late.",
}
_HANDLERS = "Whatever is logged while a handler runs, by any logger."


def fields_of(kind: type[Worded]) -> tuple[str, ...]:
    """Return the names of an event's fields."""
    return tuple(getattr(kind, "__dataclass_fields__", ()) or getattr(kind, "_fields", ()))


def key_of(field: str) -> str:
    """Return the key of an event's field; a member it is about has a role and a name, too."""
    return f"member_{field}" if field in ALWAYS else field


def markdown_table() -> str:
    """Return the table of all lines as the README has it."""
    rows = [
        (kind.__name__, tuple(map(key_of, fields_of(kind))), _first_sentence(kind))
        for kind in worded()
    ]
    rows += [(event, keys, _COUNTED[event]) for event, keys in OF_COUNTS.items()]
    lines = [
        f"| `{event}` | {', '.join(keys)} | {meaning} |" for event, keys, meaning in sorted(rows)
    ]
    return "\n".join(
        [
            "| `event` | Further keys | Meaning |",
            "|---|---|---|",
            f"| null | {', '.join(OF_A_JOB)} | {_HANDLERS} |",
            *lines,
        ]
    )


def _first_sentence(kind: type[Worded]) -> str:
    text = " ".join((inspect.getdoc(kind) or "").split())
    return text.partition(". ")[0].rstrip(".") + "."
