"""Dashboards: the committed JSON is the generated one, and holds what operators rely on."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.ops.dashboards import FILES, load, panels, queries
from tests.ops.test_alerts import exported_names

if TYPE_CHECKING:
    from tests.ops.dashboards import Asked

BUILD = Path(__file__).parents[2] / "ops" / "grafana" / "build.py"
NAMES = {
    "pillars-overview": "Pillars / Overview",
    "pillars-cron": "Pillars / Cron",
    "pillars-queue": "Pillars / Queue and workers",
    "pillars-database": "Pillars / Database",
}

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


@pytest.mark.skipif(
    find_spec("grafana_foundation_sdk") is None,
    reason="grafana-foundation-sdk is not installed: pip install -e '.[dev]'",
)
def test_the_committed_dashboards_are_the_generated_ones() -> None:
    ended = subprocess.run(
        [sys.executable, BUILD, "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_there_are_the_dashboards_that_the_readme_names() -> None:
    assert {load(file)["uid"]: load(file)["title"] for file in FILES} == NAMES
    assert {file.stem for file in FILES} == set(NAMES)


@each_file
def test_each_panel_says_what_it_shows_what_is_good_and_in_which_unit(file: Path) -> None:
    lacking = [
        panel["title"]
        for panel in panels(load(file))
        if not (panel.get("description") and panel["fieldConfig"]["defaults"].get("unit"))
    ]

    assert lacking == []


@each_file
def test_each_panel_asks_the_data_source_that_is_chosen(file: Path) -> None:
    dashboard = load(file)
    sources = {panel["datasource"]["uid"] for panel in panels(dashboard)}
    sources |= {t["datasource"]["uid"] for panel in panels(dashboard) for t in panel["targets"]}

    assert sources == {"${datasource}"}
    assert {"datasource", "instance"} <= {v["name"] for v in dashboard["templating"]["list"]}


@each_file
def test_panels_are_numbered_and_lie_beside_each_other(file: Path) -> None:
    all_panels = load(file)["panels"]
    cells = [
        (x, y)
        for position in (panel["gridPos"] for panel in all_panels)
        for x in range(position["x"], position["x"] + position["w"])
        for y in range(position["y"], position["y"] + position["h"])
    ]

    assert [panel["id"] for panel in all_panels] == list(range(1, len(all_panels) + 1))
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("asked", queries(), ids=lambda asked: f"{asked.dashboard}-{asked.title}")
def test_a_query_asks_for_metrics_that_exist(asked: Asked) -> None:
    assert set(re.findall(r"pillars_\w+", asked.expr)) <= exported_names()
    assert "$" not in asked.expr
