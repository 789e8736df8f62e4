"""One base exception: the docstring is the default message, fields carry data."""

from __future__ import annotations

import difflib
import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class PillarsError(Exception):
    """Something went wrong in Pillars."""

    def __init__(self, message: str | None = None) -> None:
        """Use the class's docstring when no message is given."""
        super().__init__(message or inspect.getdoc(type(self)) or type(self).__name__)


class UsageError(PillarsError):
    """The command was not called as its help says."""


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return `, did you mean 'x'?` for the nearest known word, or an empty string.

    `cutoff` is the least similarity, 0 to 1, in the measure of `difflib`.
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f", did you mean {near[0]!r}?" if near else ""
