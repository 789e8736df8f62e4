"""A short run of the nemesis, and what its command says of bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ops.chaos.broken import BREAKS, change
from ops.chaos.clocks import LIBRARY
from ops.chaos.faults import LANES
from pillars.db.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

REPOSITORY = Path(__file__).parents[2]
# Few of everything, unless a test says otherwise: of an option given twice the last one counts.
SMALL = ("--seed", "7", "--schedules", "16", "--crons", "2", "--workers", "1")
# It finds the sooner what is to be found. Where nothing is, the lease is longer: a slow machine may
# stand still for two seconds, and nobody has harmed whoever is expelled then.
SHORT_LEASE = ("--lease", "2", "--lookahead", "2")


def nemesis(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops.chaos", *SMALL, *arguments],
        capture_output=True,
        check=False,
        cwd=REPOSITORY,
        text=True,
    )


@pytest.mark.cluster
def test_no_fault_of_a_short_run_breaks_an_invariant(tmp_path: Path) -> None:
    report = tmp_path / "report.json"

    done = nemesis(
        *("--seconds", "45", "--schedules", "32", "--crons", "3", "--workers", "2"),
        *("--faults", "kill-two,stop-worker-long,cut,promote-sync", "--json", str(report)),
    )

    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(report.read_text())
    assert [verdict["name"] for verdict in said["invariants"]] == [f"I{n}" for n in range(1, 9)]
    assert all(verdict["checked"] > 0 for verdict in said["invariants"])
    assert len(said["deeds"]) >= 3


@pytest.mark.cluster
def test_no_faults_at_once_break_an_invariant(tmp_path: Path) -> None:
    report = tmp_path / "report.json"

    done = nemesis(
        *("--together", "--seconds", "45", "--crons", "3", "--workers", "2"),
        *("--faults", "roll,storm,twin,old-files,kill-all,hog,crowd,db-full,terminate,cut,slow"),
        *("--json", str(report)),
    )

    assert done.returncode == 0, done.stdout + done.stderr
    deeds = json.loads(report.read_text())["deeds"]
    assert {deed["lane"] for deed in deeds} == set(LANES.values())
    assert any(
        one["lane"] != other["lane"] and one["at"] < other["until"] and other["at"] < one["until"]
        for one, other in combinations(deeds, 2)
    )


@dataclass(frozen=True)
class Broken:
    """What a run with guards taken out came to; `broken` are the invariants that were."""

    returncode: int
    output: str
    broken: set[str]


# The guards that are taken out, a fault, seconds, and the invariant that is broken, if any.
BROKEN = {
    "ring,swap": ("stop-short", 4, None),
    "ring,tick": ("stop-short", 4, None),
    "ring,swap,tick": ("stop-short", 4, "I1"),
    "cursor": ("kill-server", 5, "I2"),
    "early": ("kill-server", 5, "I3"),
    "map": ("kill-server", 5, "I4"),
    "streak": ("db-down", 5, "I5"),
    "fence": ("stop-worker-long", 16, "I6"),
    # A cron counts its schedules five seconds after it has started.
    "pin": ("kill-server", 12, "I7"),
    "error": ("kill-server", 8, "I8"),
    "membership": ("kill-cron", 10, None),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future[Broken]]]:
    """All of these runs, three at a time: each of them mostly waits."""
    directory = tmp_path_factory.mktemp("broken")

    def run(breaks: str) -> Broken:
        fault, seconds, invariant = BROKEN[breaks]
        report = directory / f"{breaks}.json"
        done = nemesis(
            *("--seconds", str(seconds), "--workers", "2", "--faults", fault),
            *("--break", breaks, "--json", str(report)),
            *(SHORT_LEASE if invariant else ()),
        )
        verdicts = json.loads(report.read_text())["invariants"] if report.exists() else []
        broken = {verdict["name"] for verdict in verdicts if verdict["violations"]}
        return Broken(done.returncode, done.stdout + done.stderr, broken)

    with ThreadPoolExecutor(3) as pool:
        yield {breaks: pool.submit(run, breaks) for breaks in BROKEN}


@pytest.mark.cluster
@pytest.mark.parametrize(
    "breaks", [breaks for breaks, (_, _, invariant) in BROKEN.items() if invariant]
)
def test_a_guard_that_is_taken_out_is_found_out(
    runs: Mapping[str, Future[Broken]], breaks: str
) -> None:
    found = runs[breaks].result()

    assert found.returncode == 1, found.output
    assert BROKEN[breaks][2] in found.broken, found.output
    # What is left of the statement works: it is the guard that is missed.
    assert breaks == "error" or "I8" not in found.broken, found.output


@pytest.mark.cluster
@pytest.mark.parametrize("breaks", ["ring,swap", "ring,tick"])
def test_either_lock_on_the_door_holds_alone(
    runs: Mapping[str, Future[Broken]], breaks: str
) -> None:
    found = runs[breaks].result()

    assert found.returncode == 0, found.output


@pytest.mark.cluster
def test_without_membership_the_sweep_alone_loses_and_doubles_nothing(
    runs: Mapping[str, Future[Broken]],
) -> None:
    found = runs["membership"].result()

    assert found.returncode == 0, found.output


@pytest.mark.cluster
@pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed")
def test_wrong_clocks_of_replicas_change_nothing(tmp_path: Path) -> None:
    report = tmp_path / "report.json"

    done = nemesis("--seconds", "5", "--faults", "clocks", "--json", str(report))

    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(report.read_text())["provoked"]["lines told by a wrong clock"] > 0


def test_a_fault_that_does_not_exist_is_named_with_those_that_do() -> None:
    done = nemesis("--faults", "kill-corn")

    assert done.returncode == 2
    assert "there is no fault 'kill-corn': choose of kill-cron, kill-worker" in done.stderr


@pytest.mark.parametrize("name", sorted(BREAKS))
def test_each_guard_that_can_be_taken_out_is_there(name: str) -> None:
    statements = {
        **load_statements("pillars.cluster"),
        **load_statements("pillars.cron"),
        **load_statements("pillars.queue"),
    }

    changed = change(statements, [name])

    assert {key for key in statements if changed[key] != statements[key]} == {
        statement for statement, _, _ in BREAKS[name][1]
    }


def test_no_statement_is_read_before_the_guards_are_taken_out() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys, ops.chaos.broken; print('pillars.cluster.members' in sys.modules)",
        ],
        capture_output=True,
        check=True,
        cwd=REPOSITORY,
        text=True,
    )

    assert done.stdout == "False\n"
