"""What an importer makes of one entry of a foreign scheduler."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pillars.cron.definition import parse_schedule
from pillars.cron.faults import ScheduleError
from pillars.cron.readers import LONGEST_NAME
from pillars.ground.errors import PillarsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MOST_DRAFTS: Final = 100_000


class ImportSourceError(PillarsError):
    """The text is not what it should be; nothing can be imported from it."""


class UntranslatableError(ValueError):
    """An entry cannot be said in our vocabulary; the message is the sentence why."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One entry; `keys` in the vocabulary of our files, None where it cannot be translated.

    `notes` are sentences about what is not carried over, `original` the entry as it stood.
    """

    name: str
    keys: Mapping[str, Any] | None
    origin: str
    original: str = ""
    notes: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """What was found: drafts, keys for all of them, and notes and remarks about the whole.

    Notes are about what is lost or assumed; remarks are good to know.
    """

    drafts: tuple[Draft, ...]
    defaults: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def translated(self) -> int:
        """How many drafts are schedules."""
        return sum(draft.keys is not None for draft in self.drafts)


def settle(
    drafts: Iterable[Draft],
    defaults: Mapping[str, Any],
    notes: Iterable[str] = (),
    remarks: Iterable[str] = (),
) -> Imported:
    """Make names valid and unique; what our loader would refuse becomes untranslated, with why.

    Raises:
        ImportSourceError: there are too many.
    """
    taken: set[str] = set()
    settled: list[Draft] = []
    for draft in drafts:
        if len(settled) == MOST_DRAFTS:
            raise ImportSourceError(f"holds more than {MOST_DRAFTS:,} entries; split it")
        named = replace(draft, name=_unique(draft.name, taken))
        settled.append(_checked(named, defaults))
    return Imported(tuple(settled), defaults, tuple(notes), tuple(remarks))


def _checked(draft: Draft, defaults: Mapping[str, Any]) -> Draft:
    if draft.keys is None:
        return draft
    try:
        parse_schedule({**defaults, "name": draft.name, **draft.keys})
    except ScheduleError as error:
        return replace(draft, keys=None, notes=(*draft.notes, *map(str, error.faults)))
    return draft


def _unique(name: str, taken: set[str]) -> str:
    printable = "".join(char if char.isprintable() else " " for char in name)
    # Room for a number behind it.
    base = re.sub(r"\s+", " ", printable).strip()[: LONGEST_NAME - 8].strip() or "job"
    unique, number = base, 1
    while unique in taken:
        number += 1
        unique = f"{base}-{number}"
    taken.add(unique)
    return unique
