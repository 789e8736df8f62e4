from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pillars.cron.imports.celery import read_beat_schedule
from pillars.cron.imports.celery_source import read_celery
from pillars.cron.imports.draft import ImportSourceError

if TYPE_CHECKING:
    from pillars.cron.imports.draft import Draft, Imported

SOURCE = """\
from celery.schedules import crontab, solar
from datetime import timedelta
import os

raise SystemExit("this module must not be run")

HOUR = 60 * 60
app.conf.timezone = "Europe/Berlin"
app.conf.beat_schedule = {
    "digest": {
        "task": "mail.digest",
        "schedule": crontab(minute=0, hour=[6, 18], day_of_week="monday-fri"),
        "kwargs": {"dry": False},
        "options": {"queue": "mail", "priority": 9, "expires": 60},
    },
    "often": {"task": "a.b", "schedule": 2 * HOUR, "args": (1, "x")},
    "delta": {"task": "a.b", "schedule": timedelta(minutes=5)},
    "sun": {"task": "a.b", "schedule": solar("sunset", 1, 2)},
    "secret": {"task": "a.b", "schedule": float(os.environ["X"])},
}
app.conf.beat_schedule["late"] = {"task": "a.c", "schedule": crontab("0", "0", "*", "1")}
app.add_periodic_task(10.0, test.s())
"""


def read(text: str, **options: Any) -> Imported:
    return read_celery(text, **{"attribute": None, "timezone": None} | options)


def one(schedule: str) -> Draft:
    (draft,) = read(f"beat_schedule = {{'x': {{'task': 't', 'schedule': {schedule}}}}}").drafts
    return draft


def test_a_beat_schedule_is_read_from_source_without_running_it() -> None:
    imported = read(SOURCE)
    drafts = {draft.name: draft for draft in imported.drafts}

    assert drafts["digest"].keys == {
        "cron": "0 6,18 * * mon-fri",
        "timezone": "Europe/Berlin",
        "job": "mail.digest",
        "args": {"dry": False},
        "queue": "mail",
    }
    assert len(drafts["digest"].notes) == 2
    assert drafts["often"].keys == {"every": "2h", "job": "a.b", "args": {"args": [1, "x"]}}
    assert drafts["delta"].keys == {"every": "5m", "job": "a.b"}
    assert drafts["late"].keys is not None
    assert drafts["late"].keys["cron"] == "0 0 1 * *"
    assert [name for name, draft in drafts.items() if draft.keys is None] == ["sun", "secret"]
    assert "--execute" in drafts["secret"].notes[0]
    assert imported.notes == ("line 22: add_periodic_task() is not read",)


@pytest.mark.parametrize(
    ("schedule", "cron"),
    [
        ("crontab()", "* * * * *"),
        ("crontab(0, 6)", "0 6 * * *"),
        ("crontab(0, 6, 'sun')", "0 6 * * sun"),
        ("crontab(minute='*/15', hour='20-4')", "*/15 20-4 * * *"),
        ("crontab(hour='20-4/4')", "* 20,0,4 * * *"),
        ("crontab(0, 0, month_of_year={1, 7}, day_of_month='1')", "0 0 1 1,7 *"),
    ],
)
def test_a_crontab_is_read_in_the_order_of_its_own_parameters(schedule: str, cron: str) -> None:
    draft = one(schedule)

    assert draft.keys is not None, draft.notes
    assert draft.keys["cron"] == cron


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("crontab(day_of_week=1, day_of_month='1-7')", "must both match"),
        ("0.5", "1 second"),
        ("1.5", "whole seconds"),
        ("clocked(x)", "--execute"),
        ("[60]", "no counterpart"),
        ("None", "is missing"),
        ("timedelta(**x)", "cannot be read"),
        ("10 ** 9", "cannot be read"),
        ("1 / 0", "cannot be read"),
    ],
)
def test_what_cannot_be_translated_is_said(schedule: str, said: str) -> None:
    draft = one(schedule)

    assert draft.keys is None
    assert said in " ".join(draft.notes)


def test_an_assumed_time_zone_is_said() -> None:
    text = "beat_schedule = {'x': {'task': 't', 'schedule': crontab()}}"

    assert read(text, timezone="UTC").notes == ()
    assert "UTC" in read(text).notes[0]
    assert read(text.replace("crontab()", "60")).notes == ()


def test_the_mapping_may_have_another_name() -> None:
    text = "class Settings:\n    jobs: dict = dict(a={'task': 't', 'schedule': 60})"

    assert [draft.name for draft in read(text, attribute="Settings.jobs").drafts] == ["a"]
    with pytest.raises(ImportSourceError, match="assigns no dictionary to"):
        read(text)


@pytest.mark.parametrize("text", ["def", "\0", "(" * 1000, "-" * 100_000 + "1", "x = x"])
def test_hostile_source_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ImportSourceError, match=r"^(is|assigns) "):
        read(text)


class Crontab:
    """As celery.schedules.crontab shows itself."""

    _orig_minute = 0
    _orig_hour = "*/6"
    _orig_day_of_week = _orig_day_of_month = _orig_month_of_year = "*"


def test_live_objects_are_read_by_their_attributes() -> None:
    entries = {
        "a": {"task": "t", "schedule": Crontab()},
        "b": {"task": "t", "schedule": timedelta(hours=1)},
    }

    first, second = read_beat_schedule(entries, timezone="UTC").drafts

    assert first.keys == {"cron": "0 */6 * * *", "job": "t"}
    assert second.keys == {"every": "1h", "job": "t"}
