"""The committed dashboards as a check needs them: every query, as Grafana would send it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = Path(__file__).parents[2] / "ops" / "grafana" / "dashboards"
FILES = sorted(DIRECTORY.glob("*.json"))
# What Grafana puts in for a data source that is scraped each second or two.
SUBSTITUTES = {"$__rate_interval": "10s", "$instance": ".*", "$queue": ".*"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One query of a dashboard: `kind` is panel, annotation or variable."""

    dashboard: str
    kind: str
    title: str
    expr: str


def load(file: Path) -> dict[str, Any]:
    """One dashboard."""
    return dict(json.loads(file.read_text()))


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Its panels without the titles of its rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries() -> list[Asked]:
    """Every query of every dashboard, with its variables filled in."""
    return [asked for file in FILES for asked in _queries_of(load(file))]


def filled_in(expr: str) -> str:
    """The expression as Prometheus gets it; a variable nobody knows is left and refused there."""
    return re.sub(r"\$\w+", lambda match: SUBSTITUTES.get(match[0], match[0]), expr)


def _queries_of(dashboard: dict[str, Any]) -> Iterator[Asked]:
    name = dashboard["title"]
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield Asked(name, "panel", panel["title"], filled_in(target["expr"]))
    for annotation in dashboard["annotations"]["list"]:
        yield Asked(name, "annotation", annotation["name"], filled_in(annotation["expr"]))
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield Asked(name, "variable", variable["name"], variable["query"]["query"])
