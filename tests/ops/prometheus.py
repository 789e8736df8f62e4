"""A client of Prometheus' HTTP API, as little of it as the checks need."""

from __future__ import annotations

import json
import math
import re
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

TIMEOUT = 60.0


class Prometheus:
    """One running Prometheus."""

    def __init__(self, url: str) -> None:
        self._api = f"{url}/api/v1"

    def now(self, expr: str) -> dict[str, float]:
        """The value of each series now, by its label `name`, or `role`, or '' without either."""
        return {
            series["metric"].get("name") or series["metric"].get("role", ""): float(
                series["value"][1],
            )
            for series in self._get("query", query=expr)["result"]
        }

    def samples(self, expr: str, since: float, until: float) -> int:
        """How many samples a panel with this query shows; what is not a number shows nothing."""
        answer = self._get("query_range", query=expr, start=since, end=until, step=1)
        return sum(
            not math.isnan(float(value))
            for series in answer["result"]
            for _, value in series["values"]
        )

    def over_time(self, expr: str, since: float, until: float) -> list[tuple[float, float]]:
        """The points of the one series of this query."""
        answer = self._get("query_range", query=expr, start=since, end=until, step=1)
        return [(at, float(value)) for s in answer["result"] for at, value in s["values"]]

    def alerts(self) -> set[str]:
        """The names of the alerts that fire now."""
        alerts = self._get("alerts")["alerts"]
        return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}

    def broken_rules(self) -> list[str]:
        """The alerts whose expression could not be evaluated."""
        rules = [rule for group in self._get("rules")["groups"] for rule in group["rules"]]
        return [rule["name"] for rule in rules if rule["health"] == "err"]

    def choices(self, query: str) -> int:
        """How many values Grafana offers for a variable with this `label_values(series, label)`."""
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
        assert match, query
        return len(self._get(f"label/{match[2]}/values", **{"match[]": match[1]}))

    def _get(self, path: str, **parameters: object) -> Any:
        url = f"{self._api}/{path}?{urlencode(parameters)}"
        with urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310 - our own Prometheus
            return json.load(answer)["data"]
