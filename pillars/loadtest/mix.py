"""The names of the mixes: apart from what they are made of, which no other command has to load."""

from __future__ import annotations

from enum import StrEnum


class Mix(StrEnum):
    """Which schedules a load test has."""

    EACH_SECOND = "each-second"
    EACH_MINUTE = "each-minute"
    REALISTIC = "realistic"
    HERD = "herd"
