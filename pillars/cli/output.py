"""Tables for people, JSON for scripts, and files."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pillars.ground.errors import PillarsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from pillars.queue.desk import QueueRecord

_WIDE = 400
QUEUE_HEADINGS = ("QUEUE", "AVAILABLE", "SCHEDULED", "RUNNING", "FAILED", "OLDEST", "LIMITS")


class UnwritableFileError(PillarsError):
    """A file cannot be written."""


def write_file(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a text file.

    Raises:
        UnwritableFileError: it cannot be written, or is there already and not to be overwritten.
    """
    try:
        with path.open("w" if overwrite else "x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise UnwritableFileError(f"{path} is there already; --force overwrites it") from None
    except OSError as error:
        raise UnwritableFileError(f"{path}: cannot be written: {error.strerror}") from None


def print_json(value: object) -> None:
    """Print a value as JSON."""
    print(as_json(value))


def as_json(value: object) -> str:
    """Return a value as JSON; instants are ISO 8601 in UTC."""
    return json.dumps(value, default=_plain, indent=2, ensure_ascii=False)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Print rows under headings, or the sentence for no rows."""
    if not rows:
        print(empty)
        return
    console().print(table(headings, rows))


def print_record(pairs: Sequence[tuple[str, object]]) -> None:
    """Print one thing, a line for each attribute that is set."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        if value is not None:
            # Ids, slots and the like are names, not amounts: no separators.
            shown = str(value) if isinstance(value, int) else text(value)
            lines = shown.splitlines() or [""]
            print(f"{name:<{width}}  {lines[0]}")
            for line in lines[1:]:
                print(f"{'':<{width}}  {line}")


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return rows under headings; numbers to the right."""
    from rich.table import Table  # noqa: PLC0415 - costly, and JSON does not need it
    from rich.text import Text  # noqa: PLC0415

    result = Table(box=None, pad_edge=False, header_style="bold")
    for column, heading in enumerate(headings):
        numeric = all(isinstance(row[column], int | float) for row in rows)
        result.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        # Text, not markup: names may contain brackets.
        result.add_row(*(Text(text(value)) for value in row))
    return result


def queue_rows(queues: Sequence[QueueRecord]) -> list[tuple[object, ...]]:
    """Return queues as rows under QUEUE_HEADINGS."""
    return [
        (
            queue.queue,
            queue.available,
            queue.scheduled,
            queue.running,
            queue.failed,
            f"{queue.oldest:.1f}s",
            queue.limits_in_words(),
        )
        for queue in queues
    ]


def console() -> Console:
    """Return the terminal; where output goes to a file or pipe, lines are not broken."""
    from rich.console import Console  # noqa: PLC0415

    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)


def text(value: object) -> str:
    """Return a value as people read it; instants in UTC."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, dict | list):
        return json.dumps(value, default=_plain, ensure_ascii=False)
    return str(value)


def _plain(value: object) -> Any:  # noqa: ANN401 - whatever JSON takes
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, UUID | Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
