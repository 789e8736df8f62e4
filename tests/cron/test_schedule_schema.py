"""The JSON Schema: published as generated, and of one mind with the loader."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pillars.cron.files import load_directory
from pillars.cron.schema import PUBLISHED, published_text, schedules_schema
from pillars.cron.texts import ScheduleFilesError

VALIDATOR = jsonschema.Draft7Validator(schedules_schema())
GOOD = {"name": "a", "every": "5m", "job": "x"}


def test_the_published_schema_is_the_generated_one() -> None:
    assert published_text() == PUBLISHED.read_text()


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(schedules_schema())


def test_every_key_is_explained() -> None:
    schedule = schedules_schema()["definitions"]["schedule"]["properties"]
    groups = [schedule["dst"]["properties"], schedule["retry"]["properties"]]
    assert [] == [
        key
        for group in (schedule, *groups)
        for key, each in group.items()
        if not each["description"]
    ]


@pytest.mark.parametrize(
    "change",
    [
        {}, {"every": 300}, {"every": "1h 30m"}, {"every": 0}, {"every": "soon"}, {"every": True},
        {"cron": "* * * * *"}, {"phase": "1m"}, {"crom": 1}, {"name": ""}, {"name": " a"},
        {"job": "two words"}, {"queue": 5}, {"priority": 40_000}, {"priority": 1.5},
        {"catchup": "all"}, {"catchup": "most"}, {"overlap": "skip"}, {"dst": {}},
        {"dst": {"missing": "skip"}}, {"dst": {"mising": "skip"}}, {"dst": "skip"},
        {"retry": {"max_attempts": 3, "base": 0.5}}, {"retry": {"max_attempts": 0}},
        {"enabled": False}, {"enabled": "false"}, {"args": {"a": [1]}}, {"args": [1]},
        {"timeout": 0.5}, {"timeout": -1}, {"start_at": "2026-01-01T09:00:00+02:00"},
        {"start_at": "soon"}, {"jitter": None},
    ],
)  # fmt: skip
def test_loader_and_schema_agree(change: dict[str, Any], tmp_path: Path) -> None:
    document = {"schedules": [{**GOOD, **change}]}
    (tmp_path / "a.yaml").write_text(in_yaml(document))
    try:
        load_directory(tmp_path)
    except ScheduleFilesError:
        accepted = False
    else:
        accepted = True
    assert accepted == VALIDATOR.is_valid(document)


def in_yaml(document: object) -> str:
    """JSON is YAML."""
    return json.dumps(document)
