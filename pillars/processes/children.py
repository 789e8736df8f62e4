"""Processes that start others: keep them running, and stop them within a time limit.

A child that ends is started again, unless it cannot start at all: it ended with an error, and none
of its role, all of which have the same settings, was ever ready. It said why, and would again.

Children run in sessions of their own, so a Ctrl-C in the terminal reaches their parent alone, which
passes it on in its own order. What parent and child tell each other:

- PARENT_VARIABLE: the parent's process id. A child stops in order when its parent is gone.
- READY_VARIABLE: a pipe; the child writes the URL of its endpoints when it serves them, and with
  that is ready: it got over all that its settings can be wrong in.
- URL_VARIABLE: the parent's own endpoints, which speak for all its children; the others are told
  this URL instead of the child's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pillars.ground.events import ChildEnded, LoopFailed, ProcessStopping
from pillars.ground.loop import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from signal import Signals

    from pillars.ground.clock import Clock
    from pillars.ground.events import Emit

PARENT_VARIABLE = "PILLARS_PARENT_PID"
READY_VARIABLE = "PILLARS_READY_FD"
URL_VARIABLE = "PILLARS_PARENT_URL"
_SPAWN_PAUSE = 5.0


@dataclass(slots=True)
class Child:
    """One process: `flags` follow its role on the command line.

    Attributes:
        log: the file its output goes to; None leaves it where the parent's goes.
        dismissed: whether it is not to be started again.
        url: where its endpoints are, once it has said so.
        was_ready: whether it ever said so, this time or before.
        fate: why it does not run, for people; None while it does.
    """

    role: str
    name: str
    environment: Mapping[str, str]
    flags: tuple[str, ...] = ()
    log: Path | None = None
    dismissed: bool = False
    url: str | None = None
    was_ready: bool = False
    fate: str | None = None
    process: asyncio.subprocess.Process | None = None
    pipe: int | None = field(default=None, repr=False)
    watch: asyncio.Task[None] | None = field(default=None, repr=False)


class Supervisor:
    """Keeps children running until it is told to stop them."""

    def __init__(
        self,
        role: str,
        name: str,
        *,
        pause: Callable[[Child, float], float],
        emit: Emit,
        clock: Clock,
    ) -> None:
        """Run nothing yet.

        Args:
            role: the parent's.
            name: the parent's.
            pause: told a child that ended and how many seconds it ran; returns the seconds until
                it is started again.
            emit: receives ChildEnded, ProcessStopping and LoopFailed.
            clock: measures how long a child ran.
        """
        self._role = role
        self._name = name
        self._pause = pause
        self._emit = emit
        self._clock = clock
        self.children: list[Child] = []
        # Set once everything is to stop; whoever waits for it calls `stop`.
        self.asked = asyncio.Event()
        # The exit code of the child that was given up, 0 while none was.
        self.failed = 0

    def handle_signals(self) -> None:
        """Let SIGTERM and SIGINT ask for a stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ask_to_stop, signal.Signals(number).name)

    def ask_to_stop(self, why: str) -> None:
        """Ask for a stop; asked again, nobody waits for running jobs any more."""
        if self.asked.is_set():
            self.signal(self.children, signal.SIGTERM)
            return
        self._emit(ProcessStopping(self._role, self._name, why))
        self.asked.set()

    def start(self, children: Iterable[Child]) -> None:
        """Start these and keep them running."""
        for child in children:
            self.children.append(child)
            child.watch = asyncio.create_task(self._keep_running(child), name=child.name)

    def signal(self, children: Iterable[Child], number: signal.Signals) -> None:
        """Send a signal to those that run."""
        for child in children:
            if child.process is not None and child.process.returncode is None:
                child.process.send_signal(number)

    async def stop(self, *groups: Iterable[Child], limit: float) -> None:
        """Stop one group after the other in order; kill what takes longer than `limit` seconds."""
        self.asked.set()
        for group in map(list, groups):
            await self._end(group, signal.SIGTERM, limit)

    async def dismiss(self, child: Child, number: Signals, limit: float) -> bool:
        """End one child for good by a signal; kill it if that takes longer than `limit` seconds.

        Returns whether it ended in time.
        """
        child.dismissed = True
        return await self._end([child], number, limit)

    async def _end(self, group: list[Child], number: Signals, limit: float) -> bool:
        self.signal(group, number)
        # Not for the processes: one that is just being started is none yet.
        watches = [child.watch for child in group if child.watch is not None]
        if not watches:
            return True
        _, late = await asyncio.wait(watches, timeout=limit)
        if late:
            self.signal(group, signal.SIGKILL)
            await asyncio.wait(late)
        return not late

    async def _keep_running(self, child: Child) -> None:
        while not self._is_over(child):
            started = self._clock.monotonic()
            try:
                process = child.process = await _spawn(child)
            except OSError as error:
                # No memory, or too many processes: that passes.
                child.fate = f"cannot be started: {error.strerror}"
                self._emit(LoopFailed(child.name, describe(error), 1, _SPAWN_PAUSE))
                await self._rest(_SPAWN_PAUSE)
                continue
            child.fate = None
            if self._is_over(child):
                # The stop came while it was being started and has not reached it.
                self.signal([child], signal.SIGTERM)
            code = await process.wait()
            _hear(child)
            if self._is_over(child):
                return
            pause = self._pause(child, self._clock.monotonic() - started)
            child.url, child.fate = None, f"ended with exit code {code}"
            if code > 0 and not self._starts(child.role):
                self.failed = code
                self.ask_to_stop(f"{child.name} ended with exit code {code}")
                return
            self._emit(ChildEnded(child.role, child.name, process.pid, code, pause))
            await self._rest(pause)

    def _is_over(self, child: Child) -> bool:
        return child.dismissed or self.asked.is_set()

    def _starts(self, role: str) -> bool:
        return any(child.was_ready for child in self.children if child.role == role)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.asked.wait()


async def _spawn(child: Child) -> asyncio.subprocess.Process:
    reader, writer = os.pipe()
    try:
        with nullcontext() if child.log is None else child.log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "pillars",
                child.role,
                *child.flags,
                env={**child.environment, READY_VARIABLE: str(writer)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=(writer,),
            )
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    child.pipe = reader
    os.set_blocking(reader, False)
    asyncio.get_running_loop().add_reader(reader, _hear, child)
    return process


def _hear(child: Child) -> None:
    """Take over the child's URL if it has come; nothing comes from one that ends before."""
    reader, child.pipe = child.pipe, None
    if reader is None:
        return
    asyncio.get_running_loop().remove_reader(reader)
    with suppress(BlockingIOError):
        # One short line: the pipe carries it whole.
        child.url = os.read(reader, 4096).decode().strip() or None
    child.was_ready = child.was_ready or child.url is not None
    os.close(reader)


def clean_environment(**settings: str) -> dict[str, str]:
    """Return this process's environment with these settings of Pillars and none of the caller's."""
    inherited = {key: value for key, value in os.environ.items() if "PILLARS_" not in key}
    return inherited | settings


def parent_is_gone() -> bool:
    """Tell whether this process was started by one that has ended since."""
    parent = os.environ.get(PARENT_VARIABLE)
    return parent is not None and os.getppid() != int(parent)


def tell_parent(url: str) -> str:
    """Tell the parent, where one wants to know, the URL of our endpoints.

    Returns the URL the others are to be told.
    """
    writer = os.environ.pop(READY_VARIABLE, None)
    if writer is not None:
        with os.fdopen(int(writer), "w") as pipe:
            pipe.write(url)
    return os.environ.get(URL_VARIABLE, url)
