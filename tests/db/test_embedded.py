from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pillars.db.embedded import EmbeddedError, EmbeddedPostgres
from tests.conftest import FAST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pillars.ground.settings import Secret

# What a holder does that starts its cluster and then lives until it is killed.
HOLDER = """
import sys
from pathlib import Path
from pillars.db.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), {"fsync": "off"})
server.start()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., EmbeddedPostgres]]:
    """Builds servers on directories below tmp_path; all are stopped in the end."""
    made: list[EmbeddedPostgres] = []

    def build(name: str = "data") -> EmbeddedPostgres:
        made.append(EmbeddedPostgres(tmp_path / name, FAST))
        return made[-1]

    yield build
    for server in made:
        server.stop("immediate")
        if server._socket_dir() != server.cluster:
            shutil.rmtree(server._socket_dir())


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `data` and runs its cluster."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "data")],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def query(dsn: Secret, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn.reveal(), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_data_survives_a_restart(make: Callable[..., EmbeddedPostgres]) -> None:
    first = make()
    query(first.start(), "CREATE TABLE kept AS SELECT 42 AS answer")
    first.stop()
    assert first.running() is None

    second = make()

    assert query(second.start(), "SELECT answer FROM kept") == [(42,)]


def test_it_listens_on_no_network_and_its_directory_is_closed_to_others(
    make: Callable[..., EmbeddedPostgres],
) -> None:
    server = make()

    assert query(server.start(), "SHOW listen_addresses") == [("",)]
    assert server.cluster.stat().st_mode & 0o077 == 0


def test_configuration_given_wins_and_is_written_anew_at_each_start(
    make: Callable[..., EmbeddedPostgres],
    tmp_path: Path,
) -> None:
    first = make()
    assert query(first.start(), "SHOW fsync") == [("off",)]
    first.stop()

    second = EmbeddedPostgres(tmp_path / "data")
    try:
        assert query(second.start(), "SHOW fsync") == [("on",)]
    finally:
        second.stop()


def test_a_second_holder_is_refused_and_told_who_holds_it(
    make: Callable[..., EmbeddedPostgres],
    holder: subprocess.Popen[str],
) -> None:
    with pytest.raises(EmbeddedError) as caught:
        make().start()

    assert f"is in use by another `pillars up` (pid {holder.pid})" in str(caught.value)
    assert "--data-dir" in str(caught.value)


def test_a_refused_holder_leaves_the_running_one_alone(
    make: Callable[..., EmbeddedPostgres],
) -> None:
    first = make()
    dsn = first.start()

    with pytest.raises(EmbeddedError, match=f"pid {os.getpid()}"):
        make().start()

    assert query(dsn, "SELECT 1") == [(1,)]


def test_a_cluster_left_running_by_a_killed_holder_is_taken_over_as_it_is(
    make: Callable[..., EmbeddedPostgres],
    holder: subprocess.Popen[str],
) -> None:
    server = make()
    before = server.running()
    assert before is not None
    holder.kill()
    holder.wait()

    dsn = server.start()

    assert server.running() == before
    assert query(dsn, "SELECT 1") == [(1,)]


def test_a_cluster_of_another_major_version_is_refused_with_advice(
    make: Callable[..., EmbeddedPostgres],
) -> None:
    server = make()
    server.cluster.mkdir(parents=True)
    (server.cluster / "PG_VERSION").write_text("15\n")

    with pytest.raises(EmbeddedError) as caught:
        server.start()

    assert "was made by PostgreSQL 15" in str(caught.value)
    assert "dump it with PostgreSQL 15 and restore it here" in str(caught.value)


def test_a_refusal_lets_go_of_the_directory(make: Callable[..., EmbeddedPostgres]) -> None:
    server = make()
    server.cluster.mkdir(parents=True)
    (server.cluster / "PG_VERSION").write_text("15\n")
    for attempt in (server, make()):
        with pytest.raises(EmbeddedError, match="PostgreSQL 15"):
            attempt.start()


def test_a_path_too_long_for_a_socket_gets_a_short_directory_for_it(
    make: Callable[..., EmbeddedPostgres],
) -> None:
    server = make("d" * 120)

    dsn = server.start()

    running = server.running()
    assert running is not None
    assert len(str(running.socket_dir)) < 60
    assert running.socket_dir.stat().st_mode & 0o077 == 0
    assert query(dsn, "SELECT 1") == [(1,)]


def test_two_long_paths_do_not_share_a_socket(make: Callable[..., EmbeddedPostgres]) -> None:
    one, two = make("d" * 120), make("e" * 120)

    assert one._socket_dir() != two._socket_dir()


def test_a_url_is_not_given_while_nothing_runs(make: Callable[..., EmbeddedPostgres]) -> None:
    with pytest.raises(EmbeddedError, match="start it with `pillars up`"):
        _ = make().dsn


def test_a_stale_pid_file_of_a_process_that_is_no_postgres_is_not_believed(
    make: Callable[..., EmbeddedPostgres],
    tmp_path: Path,
) -> None:
    server = make()
    server.cluster.mkdir(parents=True)
    (server.cluster / "postmaster.pid").write_text(
        f"{os.getpid()}\n{tmp_path}\n0\n5432\n{tmp_path}\n\n0\nready\n",
    )

    assert server.running() is None


def test_what_postgres_says_when_it_does_not_start_is_passed_on(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data", {"shared_buffers": "'a lot'"})

    with pytest.raises(EmbeddedError, match="a lot"):
        server.start()


def test_a_removed_cluster_is_gone(make: Callable[..., EmbeddedPostgres]) -> None:
    server = make()
    server.start()
    server.stop()

    shutil.rmtree(server.data_dir, ignore_errors=True)

    assert not server.data_dir.exists()
