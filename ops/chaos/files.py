"""The schedules' files, in editions: each differs in the arguments of a few schedules."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from ops.chaos.load import as_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ops.chaos.load import Load

_NAME = "nemesis.yaml"


class Files:
    """A directory that all crons watch.

    Attributes:
        directory: the one they watch.
        edition: the number of what is written there.
        held: taken by whoever wants no others to write.
    """

    def __init__(self, directory: Path, loads: Sequence[Load]) -> None:
        """Write the first edition."""
        self.directory = directory
        self.edition = 0
        self.held = asyncio.Lock()
        self._loads = loads
        directory.mkdir(parents=True, exist_ok=True)
        self.write()

    def write(self) -> None:
        """Write the next edition in place of the last, at once, as a deployment does."""
        self.edition += 1
        new = self.directory / f"{_NAME}.new"
        new.write_text(as_yaml(self._loads, self.edition))
        new.replace(self.directory / _NAME)

    def superseded(self) -> Path:
        """Return a directory with the edition before this one."""
        old = self.directory.with_name("superseded")
        shutil.rmtree(old, ignore_errors=True)
        old.mkdir()
        (old / _NAME).write_text(as_yaml(self._loads, max(1, self.edition - 1)))
        return old
