"""Writes the dashboards to dashboards/*.json; with --check it only compares."""

from __future__ import annotations

import argparse
import json
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cron
import database
import overview
import queue_workers
from grafana_foundation_sdk.cog.encoder import JSONEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = Path(__file__).parent / "dashboards"
MODULES = (overview, cron, queue_workers, database)


def main() -> int:
    """Write, or compare, every dashboard; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if it would")
    check = parser.parse_args().check
    stale = []
    for name, text in rendered():
        file = DIRECTORY / f"{name}.json"
        if check:
            stale += [file.name] if not file.exists() or file.read_text() != text else []
        else:
            file.write_text(text)
    if stale:
        print(f"out of date: {', '.join(stale)}: run `python ops/grafana/build.py`")
    return bool(stale)


def rendered() -> Iterator[tuple[str, str]]:
    """Yield the name and the JSON of each dashboard."""
    for module in MODULES:
        made = json.loads(json.dumps(module.build().build(), cls=JSONEncoder))
        _number(made["panels"])
        _without_strays(made)
        yield made["uid"], json.dumps(made, indent=2, sort_keys=True) + "\n"


def _number(panels: list[dict[str, Any]]) -> None:
    """Give ids, so that links to a panel stay valid while it keeps its place."""
    numbers = count(1)
    for panel in panels:
        panel["id"] = next(numbers)


def _without_strays(made: dict[str, Any]) -> None:
    """Take away what the SDK adds unasked."""
    for variable in made["templating"]["list"]:
        # Intervals alone have these.
        for key in [key for key in variable if key.startswith("auto")]:
            del variable[key]
    for shown in (*made["annotations"]["list"], *made["links"]):
        # It would hide them in a menu.
        shown.pop("placement", None)


if __name__ == "__main__":
    sys.exit(main())
