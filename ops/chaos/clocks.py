"""Wrong clocks for single processes, by libfaketime where the system has it.

Only what `time.time()` and `datetime.now()` tell is wrong, as on a machine whose clock was set
wrongly: the monotonic clock goes on as it must. A process reads how far it is off from a file, each
second, so its clock can jump while it runs.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLACES = (
    *Path("/usr/lib").glob("*-linux-gnu/faketime/libfaketime.so.1"),
    *Path("/usr/local/lib/faketime").glob("libfaketime.so.1"),
)
# A process looks for a new setting once a second: to look always makes it forty times slower where
# two threads compete.
_NOTED_WITHIN = 1.2
# It is started with the first setting, which is noted once it has joined.
_STARTED_WITHIN = 60.0
LIBRARY = next(iter(_PLACES), None)


class Clocks:
    """Sets the clocks of processes, and remembers how they were set.

    Attributes:
        history: by incarnation, since when its clock was ahead by how many seconds.
    """

    def __init__(self, directory: Path) -> None:
        """Keep the files here."""
        self._directory = directory
        self.history: dict[str, list[tuple[float, float]]] = {}

    def environment(self, name: str, ahead: float) -> Mapping[str, str]:
        """Return what a process is to be started with, its clock ahead by some seconds."""
        self._write(name, ahead)
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file(name)),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, name: str, incarnation: str, ahead: float) -> None:
        """Set the clock of a process that was started with `environment`; it jumps."""
        self._write(name, ahead)
        self.history.setdefault(incarnation, []).append((time.time(), ahead))

    def true(self, incarnation: str, told: float) -> float:
        """Return when it was in truth when a process told an instant, in epoch seconds."""
        history = self.history.get(incarnation)
        if not history:
            return told
        ends = [since for since, _ in history[1:]] + [float("inf")]
        for number, ((since, ahead), until) in enumerate(zip(history, ends, strict=True)):
            noted_within = _NOTED_WITHIN if number else _STARTED_WITHIN
            if since - noted_within <= told - ahead <= until + _NOTED_WITHIN:
                return told - ahead
        return told

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}.clock"

    def _write(self, name: str, ahead: float) -> None:
        new = self._file(name).with_suffix(".new")
        new.write_text(f"{ahead:+.3f}\n")
        new.replace(self._file(name))
