"""Real processes for the cluster tests: start, signal, and wait for what the database shows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

from pillars.processes.children import clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from pillars.ground.settings import Secret

PATIENCE = 120.0
LOOK_EVERY = 0.05


class Crew:
    """Processes of one test; whatever is left of them ends with it."""

    def __init__(self, dsn: Secret, directory: Path) -> None:
        self._dsn = dsn
        self._directory = directory
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, role: str, name: str, *flags: str, **settings: str) -> None:
        """Start one process; its output goes to `NAME.log` in the test's directory."""
        if name in self.processes:
            self.processes[name].wait(PATIENCE)
        with (self._directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "pillars", role, "--name", name, *flags],
                env={
                    **clean_environment(PILLARS_DATABASE_URL=self._dsn.reveal()),
                    "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[0:3:2])),
                    **settings,
                },
                stdout=log,
                stderr=log,
                cwd=self._directory,
            )

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal."""
        self.processes[name].send_signal(number)

    def stop(self, *names: str) -> list[int]:
        """Stop in order and return the exit codes."""
        for name in names:
            self.signal(name, signal.SIGTERM)
        return [self.processes[name].wait(PATIENCE) for name in names]

    def output(self, name: str) -> str:
        """What a process has printed."""
        return (self._directory / f"{name}.log").read_text()

    def end(self) -> None:
        """Kill what still runs."""
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()


def eventually(what: str, look: Callable[[], bool]) -> None:
    """Look until it is true; the state of other processes announces itself in no other way."""
    pause = threading.Event()
    deadline = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < deadline, f"it never came to pass that {what}"
        pause.wait(LOOK_EVERY)


def one(sql: psycopg.Connection[Any], query: LiteralString, *params: object) -> Any:
    """The one value of a query."""
    row = sql.execute(query, params).fetchone()
    assert row is not None
    return row[0]
