"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

# What is being done, with how many it was done, and with how many it will be.
Told = Callable[[str, int, int], None]


def nobody(_what: str, _done: int, _total: int) -> None:
    """Take news of progress and do nothing."""
