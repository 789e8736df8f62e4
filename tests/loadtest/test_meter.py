from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from pillars.loadtest.meter import postmaster_of, server_cpu, usage

if TYPE_CHECKING:
    import psycopg


def test_a_process_that_works_has_used_cpu_and_memory() -> None:
    before = usage(os.getpid())
    block = bytearray(os.urandom(50_000_000))
    while True:
        after = usage(os.getpid())
        assert before
        assert after
        if after.cpu > before.cpu:
            break

    assert after.peak >= after.resident > before.resident
    assert len(block) == 50_000_000


def test_of_a_process_that_has_ended_nothing_is_known() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    assert usage(process.pid) is None
    assert postmaster_of(process.pid) is None


def test_the_cpu_of_a_server_is_that_of_all_its_processes(sql: psycopg.Connection[Any]) -> None:
    postmaster = postmaster_of(sql.info.backend_pid)
    assert postmaster
    mine = usage(sql.info.backend_pid)
    assert mine

    before = server_cpu(postmaster)
    sql.execute("SELECT count(*) FROM generate_series(1, 3000000)")

    assert server_cpu(postmaster) > before >= mine.cpu


def test_what_is_no_session_of_a_database_has_no_postmaster() -> None:
    assert postmaster_of(os.getpid()) is None
