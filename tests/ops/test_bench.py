from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from pillars.ground.settings import Secret


def test_the_benchmarks_run_and_write_down_every_round(tmp_path: Path) -> None:
    report = tmp_path / "figures.json"

    done = subprocess.run(
        [
            *(sys.executable, "-m", "ops.benchmarks", "enqueue", "work", "fire"),
            *("statements", "ring", "tell"),
            *("--quick", "--json", str(report)),
        ],
        capture_output=True,
        check=False,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())["figures"]
    assert all(len(figure["ours"]) == 1 for figure in figures)
    # Nothing is moved between those that stay.
    assert {figure["unit"] for figure in figures if not figure["ours"][0] > 0} == {"slots"}
    assert [figure["name"] for figure in figures if figure["ratio"] is not None] == [
        "enqueue in bulk",
        "enqueue one by one, awaited",
        "enqueue one by one, blocking",
        "1 worker process, jobs done",
        "2 worker processes, jobs done",
        "fire a herd",
        "poll, for each schedule found",
        "fire statement, for each fire",
        "poll that finds nothing, 5,000 schedules",
        "next tick of an expression, not seen before",
        "claim 500, for each job",
        "finish 500, for each job",
    ]


def test_the_costs_of_a_worker_and_of_an_enqueue_are_told_part_by_part(tmp_path: Path) -> None:
    report = tmp_path / "figures.json"

    done = subprocess.run(
        [sys.executable, "-m", "ops.benchmarks", "costs", "--quick", "--json", str(report)],
        capture_output=True,
        check=False,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())["figures"]
    worker, enqueue = (
        [figure["ours"][0] for figure in figures if figure["name"].startswith(whose)]
        for whose in ("a worker's CPU", "an enqueue")
    )
    # The samples of a few jobs may miss a phase or two.
    assert sum(worker) > 0
    assert all(microseconds > 0 for microseconds in enqueue)


def test_a_benchmark_that_does_not_exist_is_named_with_those_that_do() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ops.benchmarks", "wrk"],
        capture_output=True,
        check=False,
        text=True,
    )

    assert done.returncode == 2
    assert "there is no benchmark 'wrk': choose of enqueue, work" in done.stderr


def test_a_database_that_is_named_lends_its_server_and_keeps_its_own_jobs(
    dsn: Secret, sql: psycopg.Connection[Any]
) -> None:
    sql.execute("SELECT pillars.enqueue('precious')")

    done = subprocess.run(
        [
            *(sys.executable, "-m", "ops.benchmarks", "enqueue", "--quick"),
            *("--database-url", dsn.reveal()),
        ],
        capture_output=True,
        check=False,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert sql.execute("SELECT type FROM pillars.jobs").fetchall() == [("precious",)]
