"""What processes take of this machine, as Linux tells it; elsewhere nothing is told.

The database's CPU is that of its whole server, and known only where the server runs here.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC = Path("/proc")
_TICK = 1 / os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the name, which may hold anything: parent, CPU in ticks, and the
# CPU of children that have ended.
_PARENT, _USER, _SYSTEM, _WAITED = 1, 11, 12, slice(13, 15)


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process: CPU seconds since its start, resident bytes now and at most."""

    cpu: float
    resident: int
    peak: int


def usage(pid: int) -> Usage | None:
    """Return what a process takes; None when it has ended, or nothing tells."""
    try:
        fields = _stat(pid)
        status = dict(_lines((_PROC / str(pid) / "status").read_text()))
    except (OSError, IndexError):
        return None
    if "VmRSS" not in status:
        return None
    cpu = (int(fields[_USER]) + int(fields[_SYSTEM])) * _TICK
    return Usage(cpu, _bytes(status["VmRSS"]), _bytes(status["VmHWM"]))


def postmaster_of(backend: int) -> int | None:
    """Return the process id of the server of one of its sessions, if it runs here."""
    try:
        if not (_PROC / str(backend) / "cmdline").read_bytes().startswith(b"postgres:"):
            return None
        return int(_stat(backend)[_PARENT])
    except (OSError, IndexError):
        return None


def server_cpu(postmaster: int) -> float:
    """Return the CPU seconds of a server with all its processes, also those that have ended."""
    total = 0
    for fields in _family(postmaster):
        total += int(fields[_USER]) + int(fields[_SYSTEM])
    with suppress(OSError, IndexError):
        total += sum(map(int, _stat(postmaster)[_WAITED]))
    return total * _TICK


def _family(parent: int) -> Iterator[list[str]]:
    """Stats of a process and its children."""
    for directory in _PROC.iterdir():
        if not directory.name.isdecimal():
            continue
        try:
            fields = _stat(int(directory.name))
        except (OSError, IndexError):
            continue
        if int(fields[_PARENT]) == parent or int(directory.name) == parent:
            yield fields


def _stat(pid: int) -> list[str]:
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, _, value = line.partition(":")
        yield key, value


def _bytes(kilobytes: str) -> int:
    return int(kilobytes.split(maxsplit=1)[0]) * 1024
