"""PgBouncer in transaction mode between the processes and the database, where it is asked for."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from ops.chaos.pair import SOCKET
from pillars.ground.settings import Secret

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
# Of Unix sockets only the number is used: two runs at once do not meet.
_PORT = int(SOCKET.rsplit(".", maxsplit=1)[1])
_PATIENCE = 10.0
_LOOK_EVERY = 0.05


class PoolerError(Exception):
    """PgBouncer does not start."""


class Pooler:
    """Goes to the directory in which the primary's socket is to be found."""

    def __init__(self, directory: Path, door: Path) -> None:
        """Name where its own socket is to be; nothing is started yet."""
        self._directory = directory
        self._door = door
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Its socket."""
        return self._directory / SOCKET

    @property
    def dsn(self) -> Secret:
        """Its URL."""
        return Secret(f"postgresql://postgres@/postgres?host={self._directory}")

    def start(self) -> None:
        """Start it.

        Raises:
            PoolerError: it does not start.
        """
        # Where the database does not run as root, PgBouncer is to run as its user.
        owner = pwd.getpwuid(self._door.stat().st_uid)
        self._directory.mkdir(exist_ok=True)
        os.chown(self._directory, owner.pw_uid, owner.pw_gid)
        configuration = self._directory / "pgbouncer.ini"
        configuration.write_text(
            f"""
[databases]
postgres = host={self._door} port={_PORT} user=postgres
[pgbouncer]
unix_socket_dir = {self._directory}
listen_port = {_PORT}
auth_type = any
pool_mode = transaction
max_client_conn = 500
default_pool_size = 20
server_login_retry = 1
ignore_startup_parameters = options
{f"user = {owner.pw_name}" if os.geteuid() == 0 else ""}
"""
        )
        log = self._directory / "pgbouncer.log"
        with log.open("w") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own configuration
                [str(PROGRAM), str(configuration)], stdout=output, stderr=output
            )
        deadline = time.monotonic() + _PATIENCE
        while not self.socket.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise PoolerError(f"{PROGRAM} did not start:\n{log.read_text()}")
            time.sleep(_LOOK_EVERY)

    def end(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
