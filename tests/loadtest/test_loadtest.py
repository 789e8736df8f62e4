"""`pillars loadtest` as people call it: real processes, and what is left when they have ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import make_conninfo

from pillars.processes.children import clean_environment
from tests.cluster.crew import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import psycopg

    from pillars.ground.settings import Secret

pytestmark = pytest.mark.cluster
REPOSITORY = Path(__file__).parents[2]
PRECIOUS = """
INSERT INTO pillars.schedules (name, slot, next_fire_at, timing, job, definition, fingerprint)
VALUES ('precious', 7, now() + interval '1 day', '{"every":86400}', 'noop', '{}', 'x');
INSERT INTO pillars.jobs (type) VALUES ('precious');
"""


class Run:
    """One load test as a process, in a directory for temporary files of its own."""

    def __init__(self, directory: Path, *words: str, under: Sequence[str] = ()) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [*under, sys.executable, "-m", "pillars", "loadtest", *words],
            env=clean_environment(TMPDIR=str(directory), PYTHONPATH=str(REPOSITORY)),
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._children: set[int] = set()

    def until(self, words: str) -> None:
        """Read what it tells on to the line with these words."""
        assert self.process.stderr
        for line in self.process.stderr:
            if words in line:
                self._children |= children_of(self.process.pid)
                return
        raise AssertionError(f"it ended and never said {words!r}")

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; returns exit code, output and errors."""
        out, err = self.process.communicate()
        return self.process.returncode, out, err

    def left_over(self) -> list[str]:
        """What it made and did not put away: files and processes."""
        gone = self._children and all(not Path(f"/proc/{pid}").exists() for pid in self._children)
        return [*files_in(self.directory), *([] if gone else ["processes"])]


def files_in(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir()]


def children_of(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not below pytest's own directory: PostgreSQL, run by another user, could not enter it.
    with tempfile.TemporaryDirectory(prefix="pillars-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def precious(sql: psycopg.Connection[Any]) -> Iterator[None]:
    """Somebody's schedule and job, which are there afterwards, and nothing else is."""
    sql.execute(PRECIOUS)
    yield
    for table, column in (("schedules", "name"), ("jobs", "type")):
        assert sql.execute(f"SELECT {column} FROM pillars.{table}").fetchall() == [("precious",)]
    assert sql.execute("SELECT count(*) FROM pillars.members").fetchall() == [(0,)]
    assert scratch_databases(sql) == []


def scratch_databases(sql: psycopg.Connection[Any]) -> list[Any]:
    return sql.execute(
        "SELECT datname FROM pg_database WHERE datname LIKE 'pillars_loadtest%'"
    ).fetchall()


@pytest.mark.usefixtures("precious")
def test_a_cron_is_killed_and_one_joins_and_no_tick_is_lost(directory: Path, dsn: Secret) -> None:
    figures, page = directory / "figures.json", directory / "page.html"

    code, out, err = Run(
        directory,
        *("--database-url", dsn.reveal(), "--schedules", "300", "--mix", "each-second"),
        *("--replicas", "2", "--seconds", "9", "--plan", "1s:kill,2s:join"),
        *("--json", str(figures), "--report", str(page)),
    ).end()

    assert (code, "Traceback" in err) == (0, False)
    assert "expected 2,700, enqueued 2,700, missed 0, double 0\n" in out
    found = json.loads(figures.read_text())
    assert {key: found[key] for key in ("expected", "enqueued", "missed", "double")} == {
        "expected": 2_700,
        "enqueued": 2_700,
        "missed": 0,
        "double": 0,
    }
    assert found.keys() >= {
        "fires_per_second", "lateness_p50", "lateness_p99", "lateness_max", "late",
        "start_to_first_fire", "cron_cpu_per_fire_us", "database_cpu_seconds", "slots_moved",
    }  # fmt: skip
    assert found["start_to_first_fire"] > 0
    assert [(done["deed"], done["name"][:5]) for done in found["plan"]] == [
        ("kill", "cron-"),
        ("join", "cron-"),
    ]
    assert [each["name"] for each in found["processes"]] == [
        "worker-1",
        "cron-1",
        "cron-2",
        "cron-3",
    ]
    assert sorted(each["end"] for each in found["processes"]) == ["done"] * 3 + ["killed"]
    assert all(each["peak_bytes"] > 1e7 for each in found["processes"])
    text = page.read_text()
    assert text.count("<svg") == 6
    assert "src=" not in text
    assert "href=" not in text


@pytest.mark.usefixtures("precious")
def test_in_place_only_what_it_made_itself_is_removed(directory: Path, dsn: Secret) -> None:
    code, out, err = Run(
        directory,
        *("--database-url", dsn.reveal(), "--in-place", "--schedules", "50"),
        *("--mix", "each-second", "--replicas", "1", "--workers", "0", "--seconds", "5"),
    ).end()

    assert (code, "Traceback" in err) == (0, False)
    assert "expected 250, enqueued 250, missed 0, double 0\n" in out


@pytest.mark.usefixtures("precious")
def test_ctrl_c_leaves_no_database_no_process_and_no_directory(
    directory: Path, dsn: Secret
) -> None:
    run = Run(directory, "--database-url", dsn.reveal(), "--schedules", "100")
    run.until("waiting for the first tick")

    run.process.send_signal(signal.SIGINT)
    code, out, err = run.end()

    assert (code, out) == (130, "")
    assert err.endswith("cleaning up\npillars: interrupted; nothing of it is left\n")
    assert run.left_over() == []


def test_sigterm_ends_the_embedded_database_too(directory: Path) -> None:
    run = Run(directory, "--schedules", "100")
    run.until("starting workers")

    run.process.send_signal(signal.SIGTERM)
    code, _, _ = run.end()

    assert code == 130
    assert files_in(directory) == []


@pytest.mark.usefixtures("precious")
def test_the_end_of_its_terminal_ends_it_save_under_nohup(directory: Path, dsn: Secret) -> None:
    words = ("--database-url", dsn.reveal(), "--schedules", "100")
    run, kept = Run(directory, *words), Run(directory, *words, under=["nohup"])
    for each in (run, kept):
        each.until("starting workers")
        each.process.send_signal(signal.SIGHUP)

    assert run.end()[0] == 130
    kept.until("waiting for the first tick")
    kept.process.send_signal(signal.SIGINT)
    assert kept.end()[0] == 130


def test_what_can_be_kept_of_a_run_is_where_one_file_cannot_be_written(directory: Path) -> None:
    (directory / "figures.json").symlink_to("/dev/full")

    code, out, err = Run(
        directory,
        *("--schedules", "10", "--replicas", "1", "--workers", "0", "--seconds", "5"),
        *("--json", "figures.json", "--report", "page.html"),
    ).end()

    assert (code, "Traceback" in err) == (1, False)
    assert err.endswith("pillars: figures.json: cannot be written: No space left on device\n")
    assert out.endswith("report: page.html\n")
    assert (directory / "page.html").read_text().endswith("</html>\n")


@pytest.mark.usefixtures("precious")
def test_a_process_that_ends_by_itself_fails_the_run_and_its_last_words_are_told(
    directory: Path, dsn: Secret
) -> None:
    run = Run(directory, "--database-url", dsn.reveal(), "--schedules", "100")
    run.until("starting workers")
    eventually("it has a worker", lambda: bool(children_of(run.process.pid)))

    os.kill(min(children_of(run.process.pid)), signal.SIGKILL)
    code, out, err = run.end()

    assert (code, out) == (1, "")
    assert "pillars: worker-1 ended with exit code -9:\n" in err


def test_who_may_not_create_a_database_is_refused_with_what_can_be_done(
    directory: Path, dsn: Secret, sql: psycopg.Connection[Any]
) -> None:
    sql.execute(PRECIOUS)
    role = f"loadtester_{os.getpid()}"
    sql.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        url = make_conninfo(dsn.reveal(), user=role, password="x")  # noqa: S106 - lives as long
        code, out, err = Run(directory, "--database-url", url).end()
    finally:
        sql.execute(f"DROP ROLE {role}")

    assert (code, out) == (1, "")
    assert "this user may not create a database" in err
    assert "ALTER ROLE ... CREATEDB" in err
    assert "--in-place" in err
    assert files_in(directory) == []
