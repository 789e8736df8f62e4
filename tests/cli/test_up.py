"""`pillars up` as a process: what it does to a database that is, or is not, its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pillars.db.embedded import EmbeddedPostgres
from pillars.ground.settings import setting_names

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.cluster
REPOSITORY = Path(__file__).parents[2]


def start_up(*flags: str, **environment: str) -> subprocess.Popen[str]:
    """Start `pillars up` with one process of each kind, no schedules and any free port."""
    one_each = ("--port", "0", "--cron", "1", "--workers", "1")
    return subprocess.Popen(
        [sys.executable, "-m", "pillars", "up", *one_each, "--schedules-dir", "/no/such", *flags],
        cwd=REPOSITORY,
        env={k: v for k, v in os.environ.items() if k not in setting_names()} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Read on to the line with these words; pytest's limit ends a vain wait."""
    assert process.stdout
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(f"it ended and never said {words!r}")


class Up:
    """One `pillars up` with a data directory of its own, read line by line."""

    first_words = ""

    def __init__(self, data_dir: Path) -> None:
        self.postgres = EmbeddedPostgres(data_dir)
        self._data_dir = data_dir
        self.process = self.another()

    def another(self) -> subprocess.Popen[str]:
        """Start a `pillars up` on the same directory."""
        return start_up("--data-dir", str(self._data_dir))

    def until(self, words: str) -> str:
        """Read on to the line with these words."""
        return read_until(self.process, words)

    def stop(self) -> tuple[int, str]:
        """Press Ctrl-C; returns the exit code and what was said."""
        self.process.send_signal(signal.SIGINT)
        said, _ = self.process.communicate()
        return self.process.returncode, said


@pytest.fixture
def up() -> Iterator[Up]:
    with tempfile.TemporaryDirectory(prefix="pillars-", ignore_cleanup_errors=True) as directory:
        running = Up(Path(directory))
        try:
            running.first_words = running.until("a server at http://")
            yield running
        finally:
            if running.process.returncode is None:
                running.stop()
            running.postgres.stop("immediate")


def test_any_free_port_is_chosen_once_and_told(up: Up) -> None:
    said = r".*starting 1 cron, 1 worker and a server at http://127\.0\.0\.1:[1-9]\d+: "
    assert re.match(said, up.first_words)


def test_a_second_one_is_refused_and_leaves_the_database_of_the_first_running(up: Up) -> None:
    before = up.postgres.running()
    assert before is not None

    second = up.another()
    said, _ = second.communicate()

    assert second.returncode == 1
    assert len(said.splitlines()) == 1
    assert "is in use by another `pillars up`" in said
    assert up.postgres.running() == before


def test_a_database_that_dies_is_started_again_and_all_go_on(up: Up) -> None:
    for _ in ("server", "cron", "worker"):
        up.until("ready at http://")
    before = up.postgres.running()
    assert before is not None

    os.kill(before.pid, signal.SIGKILL)
    up.until("started PostgreSQL")

    after = up.postgres.running()
    assert after is not None
    assert after.pid != before.pid
    up.until("works again after")
    code, said = up.stop()
    assert code == 0
    assert said.splitlines()[-1].endswith(f"stopped PostgreSQL in {up.postgres.data_dir}")
    assert up.postgres.running() is None


def test_an_ipv6_address_is_taken_and_one_of_no_machine_refused() -> None:
    there = start_up("--host", "::1", PILLARS_DATABASE_URL="postgresql://joe@127.0.0.1:1/x")
    nowhere = start_up("--host", "no.such.host.invalid", PILLARS_DATABASE_URL="postgresql://x")
    try:
        read_until(there, "cannot reach database x at 127.0.0.1:1")
        there.send_signal(signal.SIGINT)
        there.communicate()
        said, _ = nowhere.communicate()
    finally:
        there.kill()
        nowhere.kill()

    assert (there.returncode, nowhere.returncode) == (0, 1)
    assert "cannot listen on no.such.host.invalid:0" in said


def test_ctrl_c_ends_the_wait_for_a_database_out_of_reach() -> None:
    process = start_up(PILLARS_DATABASE_URL="postgresql://joe:s3cret@127.0.0.1:1/x")
    try:
        told = read_until(process, "cannot reach database x at 127.0.0.1:1")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate()
    finally:
        process.kill()

    assert process.returncode == 0
    assert "s3cret" not in told + said
