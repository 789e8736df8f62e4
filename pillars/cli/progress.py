"""A bar for what takes long, on stderr, where somebody looks."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress, TaskID

    from pillars.cron.progress import Told

# Seconds; what takes no longer is shown without.
_PATIENCE: Final = 1.0


@contextmanager
def progress_bar() -> Iterator[Told]:
    """Give what shows a bar for each sort of work, and take the bars away at the end."""
    bars = _Bars()
    try:
        yield bars
    finally:
        bars.stop()


class _Bars:
    def __init__(self) -> None:
        self._shown_from = time.monotonic() + _PATIENCE
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        if not sys.stderr.isatty() or time.monotonic() < self._shown_from:
            return
        progress = self._started()
        if what not in self._tasks:
            self._tasks[what] = progress.add_task(what, total=total)
        progress.update(self._tasks[what], completed=done)

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()

    def _started(self) -> Progress:
        if self._progress is None:
            from rich.console import Console  # noqa: PLC0415 - costly, and rarely needed
            from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn  # noqa: PLC0415

            columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self._progress.start()
        return self._progress
