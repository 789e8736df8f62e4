"""A real system under load and a real Prometheus: a cron is killed, dashboards are asked.

In this order, because the dashboards also show what a death leaves behind.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.cluster.crew import eventually
from tests.ops.dashboards import queries
from tests.ops.prometheus import Prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ops.dashboards import Asked

REPOSITORY = Path(__file__).parents[2]
OBSERVE = REPOSITORY / "ops" / "prometheus" / "observe.py"
CRONS, WORKERS = 3, 2
SCHEDULES = """\
defaults: {retry: {backoff: constant, base: 1s}}
schedules:
  - {name: slow, every: 1s, job: load.slow, queue: reports}
  - {name: flaky, every: 1s, job: load.flaky, queue: mail}
  - {name: hopeless, every: 1s, job: load.hopeless, queue: mail}
"""
SLOTS = 4096
LATENESS = "pillars_cron_lateness_seconds"

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        shutil.which("prometheus") is None,
        reason="prometheus is not on PATH: apt-get install prometheus",
    ),
]


class System:
    """`ops/observe` with its Prometheus, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.since = time.time()
        self.data_dir = directory / "data"
        self._log = directory / "log"
        (directory / "schedules").mkdir()
        quick = "".join(f"  - {{name: quick-{n}, every: 1s, job: load.quick}}\n" for n in range(30))
        (directory / "schedules" / "load.yaml").write_text(SCHEDULES + quick)
        flags = {
            "--prometheus-port": 0,
            "--scrape-interval": "1s",
            "--port": 0,
            "--cron": CRONS,
            "--workers": WORKERS,
            "--data-dir": self.data_dir,
            "--schedules-dir": directory / "schedules",
            "--app": "load_app:app",
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, OBSERVE, *(str(word) for pair in flags.items() for word in pair)],
                cwd=REPOSITORY,
                env={
                    **os.environ,
                    "PYTHONPATH": f"{REPOSITORY}:{Path(__file__).parent}",
                    # A cron that is dead is missed after one lease and back after three: long
                    # enough to be seen. Ticks are ahead by more than it takes to miss it.
                    "PILLARS_LEASE": "10",
                    "PILLARS_LOOKAHEAD": "30",
                },
                stdout=log,
                stderr=log,
            )
        eventually("it is told what to open", lambda: self._told("Pillars") is not None)
        self.prometheus = Prometheus((self._told("Prometheus") or "").removesuffix("/graph"))

    def members(self) -> dict[str, str]:
        """The role of each live member, by its address."""
        with urlopen(f"{self._told('Pillars')}/sd/prometheus") as answer:  # noqa: S310 - our own
            groups = json.load(answer)
        return {target: g["labels"]["role"] for g in groups for target in g["targets"]}

    def output(self) -> str:
        """What everything has printed."""
        return self._log.read_text()

    def kill(self, name: str) -> None:
        """End a member at once, without a word."""
        status = subprocess.run(
            [sys.executable, "-m", "pillars", "status", "--json", "--data-dir", self.data_dir],
            capture_output=True,
            check=True,
        )
        (pid,) = [m["pid"] for m in json.loads(status.stdout)["members"] if m["name"] == name]
        os.kill(pid, signal.SIGKILL)

    def _told(self, what: str) -> str | None:
        assert self.process.poll() is None, self.output()
        found = re.search(rf"^{what} +(http[^\s,]+)", self.output(), re.MULTILINE)
        return found[1] if found else None


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with tempfile.TemporaryDirectory(prefix="pillars-", ignore_cleanup_errors=True) as directory:
        system = System(Path(directory))
        try:
            yield system
        finally:
            system.process.send_signal(signal.SIGINT)
            code = system.process.wait(120)
        assert code == 0, system.output()


def test_when_a_cron_is_killed_the_others_share_its_slots_and_no_tick_is_late(
    system: System,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prometheus = system.prometheus
    eventually(
        "all members are scraped",
        lambda: prometheus.now('sum(up{job="pillars"})') == {"": 1 + CRONS + WORKERS},
    )
    eventually(
        "three crons share the ring",
        lambda: (
            sorted(prometheus.now("pillars_cron_owned_slots").values()) == [1365, 1365, 1366]
            and prometheus.now('max(pillars_members{role="cron"})') == {"": CRONS}
        ),
    )
    killed = time.time()
    system.kill("cron-2")
    eventually(
        "the server counts two crons",
        lambda: prometheus.now('max(pillars_members{role="cron"})') == {"": CRONS - 1},
    )
    eventually(
        "the two have its slots",
        lambda: (
            prometheus.now("pillars_cron_owned_slots") == {"cron-1": 2048, "cron-3": 2048}
            and prometheus.now("max(pillars_ring_unowned_slots)") == {"": 0}
        ),
    )
    until = time.time() + 1  # a range ends at its last whole step
    others = 'name!="cron-2"'
    ticks = f"sum({LATENESS}_count{{{others}}})"
    late = "ticks late by more than 0.25 s"
    rows = {
        "crons alive": 'max(pillars_members{role="cron"})',
        "slots with an owner": f"{SLOTS} - max(pillars_ring_unowned_slots)",
        "slots of cron-1": 'sum(pillars_cron_owned_slots{name="cron-1"})',
        "slots of cron-3": 'sum(pillars_cron_owned_slots{name="cron-3"})',
        "ticks fired by these two": ticks,
        "ticks late by more than 1 ms": f'{ticks} - sum({LATENESS}_bucket{{{others}, le="0.001"}})',
        late: f'{ticks} - sum({LATENESS}_bucket{{{others}, le="0.25"}})',
    }
    points = {what: prometheus.over_time(expr, killed, until) for what, expr in rows.items()}
    with capsys.disabled():
        sys.stdout.write(history("cron-2 is killed at 0 s", points, killed))

    assert prometheus.now('sum(increase(pillars_ring_moves_total{reason="expel"}[30s]))')[""] > 0
    assert len({value for _, value in points[late]}) == 1


def test_every_query_of_every_dashboard_returns_data_under_load(
    system: System,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prometheus = system.prometheus
    found: dict[Asked, int] = {}

    def all_have_data() -> bool:
        for asked in queries():
            if not found.get(asked):
                found[asked] = samples(system, asked)
        return all(found.values())

    try:
        eventually("every query returns data", all_have_data)
    finally:
        with capsys.disabled():
            sys.stdout.write(table(found))

    assert prometheus.now('sum(pillars_jobs_finished_total{outcome="failed"})')[""] > 0


def test_of_all_alerts_only_the_one_about_dead_jobs_fires(system: System) -> None:
    prometheus = system.prometheus

    eventually("dead jobs are told of", lambda: "PillarsJobsDead" in prometheus.alerts())

    assert prometheus.alerts() == {"PillarsJobsDead"}
    assert prometheus.broken_rules() == []


def test_each_member_is_ready_and_says_by_which_checks(system: System) -> None:
    checks = {
        "cron": {"pass", "overdue", "database"},
        "worker": {"claim", "database"},
        "server": {"database"},
    }

    def all_are_ready() -> bool:
        found = [(role, readiness(address)) for address, role in system.members().items()]
        assert {role: set(said["checks"]) for role, said in found} == checks
        return len(found) == 1 + CRONS + WORKERS and all(said["ok"] for _, said in found)

    # The cron that was killed is started again after three leases.
    eventually("all members are ready", all_are_ready)


def readiness(address: str) -> dict[str, Any]:
    """What a member says of itself, ready or not."""
    try:
        with urlopen(f"http://{address}/readyz") as answer:
            return dict(json.load(answer))
    except HTTPError as error:
        return dict(json.load(error))


def samples(system: System, asked: Asked) -> int:
    """What a query of a dashboard finds from the start until now."""
    if asked.kind == "variable":
        return system.prometheus.choices(asked.expr)
    return system.prometheus.samples(asked.expr, system.since, time.time())


def table(found: dict[Asked, int]) -> str:
    """One line for each query."""
    lines = [f"{'dashboard':28}{'panel':44}{'samples':>8}  query"]
    for asked, count in found.items():
        title = asked.title if asked.kind == "panel" else f"({asked.kind}) {asked.title}"
        query = " ".join(asked.expr.split())
        lines.append(f"{asked.dashboard:28}{title:44}{count:8}  {query}")
    return "\n\n" + "\n".join(lines) + "\n"


def history(title: str, series: dict[str, list[tuple[float, float]]], start: float) -> str:
    """Each series as the instants, in seconds, at which its value changed."""
    lines = [title]
    for what, points in series.items():
        steps = [
            f"{at - start:.0f}s: {value:g}"
            for index, (at, value) in enumerate(points)
            if index == 0 or value != points[index - 1][1]
        ]
        lines.append(f"  {what:32}{', '.join(steps)}")
    return "\n\n" + "\n".join(lines) + "\n"
