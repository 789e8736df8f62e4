"""Alerts: what promtool says of them; each has a runbook, a test and metrics that exist."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import pillars
from pillars.telemetry.catalog import METRICS, Kind

PROMETHEUS = Path(__file__).parents[2] / "ops" / "prometheus"
PROMTOOL = shutil.which("promtool")
SUFFIXES = ("_bucket", "_sum", "_count")

with_promtool = pytest.mark.skipif(
    PROMTOOL is None,
    reason="promtool is not on PATH: apt-get install prometheus",
)


def load(name: str) -> Any:
    return yaml.safe_load((PROMETHEUS / name).read_text())


ALERTS = {rule["alert"]: rule for group in load("alerts.yml")["groups"] for rule in group["rules"]}


def promtool(*arguments: str) -> str:
    """What promtool says; it must be content."""
    assert PROMTOOL
    ended = subprocess.run(
        [PROMTOOL, *arguments],
        cwd=PROMETHEUS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def exported_names() -> set[str]:
    names = set()
    for metric in METRICS:
        suffixes = SUFFIXES if metric.kind is Kind.HISTOGRAM else ("",)
        names |= {metric.name + suffix for suffix in suffixes}
    return names


@with_promtool
def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    promtool("check", "config", "--lint=all", "--lint-fatal", "prometheus.yml")


@with_promtool
def test_each_alert_fires_when_it_should_and_not_when_it_should_not() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_is_wrong_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert {"summary", "description", "runbook"} == set(rule["annotations"])
    assert rule["annotations"]["runbook"] == f"ops/prometheus/RUNBOOKS.md#{name.lower()}"


def test_there_is_one_runbook_for_each_alert_in_the_same_order() -> None:
    text = (PROMETHEUS / "RUNBOOKS.md").read_text()

    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == list(ALERTS)


def test_links_between_runbooks_lead_somewhere() -> None:
    text = (PROMETHEUS / "RUNBOOKS.md").read_text()

    assert set(re.findall(r"\]\(#(\w+)\)", text)) <= {name.lower() for name in ALERTS}


def test_runbooks_quote_what_logs_and_errors_really_say() -> None:
    text = re.sub(r"`[^`]*`", "", (PROMETHEUS / "RUNBOOKS.md").read_text())
    quoted = re.findall(r'"([^"]+)"', text)

    said = sentences(Path(pillars.__file__).parent)

    assert len(quoted) >= 3
    assert [words for words in quoted if not any(words in each for each in said)] == []


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_must_not(name: str) -> None:
    cases = [
        bool(case.get("exp_alerts"))
        for group in load("alerts_test.yml")["tests"]
        for case in group.get("alert_rule_test", ())
        if case["alertname"] == name
    ]

    assert set(cases) == {True, False}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_asks_for_metrics_that_exist(name: str) -> None:
    asked = set(re.findall(r"pillars_\w+", ALERTS[name]["expr"]))

    assert asked <= exported_names()


def sentences(package: Path) -> list[str]:
    """All text in a package's code that it may say to somebody: no docstrings."""
    trees = [ast.parse(file.read_text()) for file in package.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in nodes
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    ]
