"""Processes: each start is an incarnation with a log of its own, cron-1.2 the second of cron-1."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pillars.processes.children import clean_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPOSITORY = Path(__file__).parents[2]
# A process that was asked to stop drains for 25 s at most, and leaves.
PATIENCE = 45.0
_LOOK_EVERY = 0.05


@dataclass(slots=True)
class Incarnation:
    """One start of a process."""

    name: str
    number: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def id(self) -> str:
        """Name and number, as in the name of its log."""
        return f"{self.name}.{self.number}"


@dataclass(slots=True)
class Crew:
    """All processes of a run by name; whatever is left of them ends with it.

    Attributes:
        directory: where they work and leave their logs.
        settings: environment variables of all.
        linked: names whose way to the database is `link` instead.
        link: the URL of that way.
        broken: guards to take out, for `broken`.
        past: every incarnation there was, in order.
        exits: exit codes of those that were asked to stop, by incarnation.
    """

    directory: Path
    settings: Mapping[str, str]
    linked: frozenset[str]
    link: str
    broken: str = ""
    past: list[Incarnation] = field(default_factory=list)
    exits: dict[str, int] = field(default_factory=dict)
    _current: dict[str, Incarnation] = field(default_factory=dict)

    def start(self, name: str, known_as: str | None = None, **settings: str) -> None:
        """Start a process; its role is the name up to the hyphen.

        Args:
            name: how the run knows it.
            known_as: how the others know it, where that is not the same.
            settings: environment variables of its own, which win.
        """
        role = name.split("-", maxsplit=1)[0]
        number = sum(each.name == name for each in self.past) + 1
        log = self.directory / f"{name}.{number}.log"
        module = "ops.chaos.broken" if self.broken else "pillars"
        flags = ["--port", "0"] if role == "server" else []
        environment = clean_environment(**self.settings)
        if name in self.linked:
            environment["PILLARS_DATABASE_URL"] = self.link
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-m", module, role, "--name", known_as or name, *flags],
                env={
                    **environment,
                    "PILLARS_PARENT_PID": str(os.getpid()),
                    "PYTHONPATH": str(REPOSITORY),
                    "NEMESIS_BREAK": self.broken,
                    **settings,
                },
                stdout=output,
                stderr=output,
                cwd=self.directory,
            )
        self._current[name] = Incarnation(name, number, process, log)
        self.past.append(self._current[name])

    def alive(self, role: str = "") -> list[str]:
        """Return the names of the processes that run, in order."""
        return sorted(
            name
            for name, each in self._current.items()
            if name.startswith(role) and each.process.poll() is None
        )

    def id(self, name: str) -> str:
        """Return the current incarnation's id."""
        return self._current[name].id

    def pids(self) -> dict[str, int]:
        """Return the process ids of all incarnations that run."""
        return {
            each.id: each.process.pid
            for each in self._current.values()
            if each.process.poll() is None
        }

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process."""
        self._current[name].process.send_signal(number)

    async def joined(self, name: str) -> None:
        """Wait until a process says that it is a member, for PATIENCE at most."""
        log = self._current[name].log
        deadline = time.monotonic() + PATIENCE
        while b'"MemberJoined"' not in log.read_bytes():
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(_LOOK_EVERY)

    async def kill(self, name: str) -> None:
        """End a process without a word."""
        self.signal(name, signal.SIGKILL)
        await self._gone(name)

    async def stop(self, names: Sequence[str]) -> None:
        """Ask processes to stop, all at once, and keep their exit codes; late ones are killed."""
        for name in names:
            self.signal(name, signal.SIGTERM)
        await asyncio.gather(*(self._leave(name) for name in names))

    def end(self) -> None:
        """Kill what still runs."""
        for each in self.past:
            if each.process.poll() is None:
                each.process.kill()
            each.process.wait()

    async def _leave(self, name: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                code = await self._gone(name)
        except TimeoutError:
            await self.kill(name)
            code = -signal.SIGKILL
        self.exits[self.id(name)] = code

    async def _gone(self, name: str) -> int:
        # Looked at, not waited for in a thread: a wait that is given up would leave its thread.
        process = self._current[name].process
        while (code := process.poll()) is None:  # noqa: ASYNC110 - nothing tells of an end
            await asyncio.sleep(_LOOK_EVERY)
        return code
