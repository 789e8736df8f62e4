"""The processes of a load test: crons and workers as anybody starts them, each with a log file."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pillars.ground.errors import PillarsError
from pillars.loadtest.meter import Usage, usage
from pillars.loadtest.report import ProcessFigures
from pillars.processes.children import PARENT_VARIABLE, Child, clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pillars.ground.settings import Secret
    from pillars.loadtest.orders import Order
    from pillars.processes.children import Supervisor

ROLES = ("cron", "worker")
# What a process may take to leave in order before it is killed, seconds.
_LEAVING = 30.0
_LAST_WORDS = 5


class CrewError(PillarsError):
    """A process of the load test did not do what it should."""


@dataclass(slots=True)
class Hand:
    """One process: how it ended, None while it runs, and what it took by the last look at it.

    `label` is its name without what all names of the run begin with.
    """

    label: str
    child: Child
    end: str | None = None
    usage: Usage | None = None

    @property
    def name(self) -> str:
        """As in lists and on the ring."""
        return self.child.name


class Crew:
    """Starts, kills and stops crons and workers."""

    def __init__(
        self, supervisor: Supervisor, order: Order, dsn: Secret, directory: Path, run: str
    ) -> None:
        """Start nobody yet; `run` is the queue of the run and the first part of all names."""
        self.hands: list[Hand] = []
        self._supervisor = supervisor
        self._directory = directory
        self._run = run
        (directory / "schedules").mkdir()
        self._environment = clean_environment(
            PILLARS_DATABASE_URL=dsn.reveal(),
            PILLARS_SCHEDULES_DIR=str(directory / "schedules"),
            PILLARS_LOOKAHEAD=str(order.lookahead),
            PILLARS_LEASE=str(order.lease),
            PILLARS_CONCURRENCY=str(order.concurrency),
            PILLARS_QUEUES=run,
            **{PARENT_VARIABLE: str(os.getpid())},
        )

    def start(self, role: str) -> Hand:
        """Start one process more."""
        number = sum(hand.child.role == role for hand in self.hands) + 1
        label = f"{role}-{number}"
        name = f"{self._run}-{label}"
        environment = {**self._environment, "PILLARS_NAME": name}
        child = Child(role, name, environment, log=self._directory / f"{label}.log")
        hand = Hand(label, child)
        self.hands.append(hand)
        self._supervisor.start([child])
        return hand

    def running(self, role: str = "") -> list[Hand]:
        """Return those that run, in order of their start."""
        return [
            hand
            for hand in self.hands
            if hand.end is None and (not role or hand.child.role == role)
        ]

    async def end(self, hand: Hand, number: signal.Signals, how: str) -> None:
        """End one process by a signal; `how` is for people."""
        self.look()
        hand.end = how
        if not await self._supervisor.dismiss(hand.child, number, limit=_LEAVING):
            hand.end = f"{how}, killed after {_LEAVING:g} s"

    def look(self) -> None:
        """Note what each process takes."""
        for hand in self.running():
            process = hand.child.process
            hand.usage = (process and usage(process.pid)) or hand.usage

    def crons(self) -> list[Hand]:
        """Return all crons there ever were."""
        return [hand for hand in self.hands if hand.child.role == "cron"]

    async def rest(self) -> None:
        """Let all leave at the end of their work: crons first, then workers."""
        for role in ROLES:
            hands = self.running(role)
            await asyncio.gather(*(self.end(hand, signal.SIGTERM, "done") for hand in hands))

    async def stop(self) -> None:
        """Stop all that is left, whatever is under way."""
        await self._supervisor.stop(self._supervisor.children, limit=_LEAVING)

    def figures(self) -> list[ProcessFigures]:
        """Return what each process took."""
        return [
            ProcessFigures(
                hand.label,
                hand.child.role,
                hand.end or "",
                hand.usage.cpu if hand.usage else None,
                hand.usage.peak if hand.usage else None,
            )
            for hand in self.hands
        ]

    def last_words(self) -> Iterator[str]:
        """Yield the last lines of those that ended by themselves."""
        for hand in self.hands:
            child = hand.child
            if hand.end is None and child.fate is not None and child.log is not None:
                yield f"{hand.label} {child.fate}:"
                yield from child.log.read_text(errors="replace").splitlines()[-_LAST_WORDS:]
