from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pillars.cron.definition import parse_schedule
from pillars.cron.files import load_directory
from pillars.cron.imports.celery import read_beat_schedule
from pillars.cron.imports.celery_source import read_celery
from pillars.cron.imports.crontab import read_crontab
from pillars.cron.imports.draft import Draft, Imported, ImportSourceError, settle
from pillars.cron.imports.kubernetes import read_kubernetes
from pillars.cron.imports.writer import reads_back, write_yaml
from pillars.cron.yaml_marks import read_yaml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Reader = Callable[[str], Imported]


def crontab(text: str) -> Imported:
    return read_crontab(text, job="shell", timezone=None)


def system_crontab(text: str) -> Imported:
    return read_crontab(text, job="shell", timezone="Europe/Berlin", system=True)


def kubernetes(text: str) -> Imported:
    return read_kubernetes(text, job="container", timezone=None)


def celery(text: str) -> Imported:
    return read_celery(text, attribute=None, timezone=None)


def loads(imported: Imported) -> None:
    """Our own loader finds no fault, and what was meant."""
    text = write_yaml(imported, "a test")
    assert reads_back(text, imported)
    for raw in read_yaml(text).root["schedules"]:
        parse_schedule({**imported.defaults, **raw})


PIECES = st.sampled_from(
    [
        *(
            "* * * * * ",
            "@daily ",
            "@every 1h",
            "0 0 1-5/2 * mon",
            "CRON_TZ=",
            "MAILTO=x",
            "%",
            "\\%",
        ),
        *(
            "\n",
            "\t",
            " ",
            "#",
            "root",
            "kind: CronJob",
            "spec:",
            "schedule: ",
            "---\n",
            "- ",
            "{",
            "}",
        ),
        *(
            "beat_schedule",
            " = ",
            "{'a': {'task': 'b', 'schedule': ",
            "crontab(",
            "60",
            ")",
            "}}",
            "*",
        ),
        *(
            "'",
            '"',
            "[",
            "]",
            ",",
            "&a ",
            "*a",
            "no",
            "010",
            "\x85",
            "\u2028",
            "\x00",
            "é",
            "~",
            "-",
        ),
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=5), max_size=25).map("".join)


@pytest.mark.parametrize("reader", [crontab, system_crontab, kubernetes, celery])
@given(text=TEXTS)
def test_no_text_crashes_an_importer_and_all_output_loads(reader: Reader, text: str) -> None:
    with contextlib.suppress(ImportSourceError):
        loads(reader(text))


@given(
    command=st.text(min_size=1).filter(lambda text: "\n" not in text and text.strip(" \t")),
    comment=st.text(),
)
def test_any_command_of_a_crontab_loads(command: str, comment: str) -> None:
    loads(crontab(f"#{comment}\n* * * * * {command}"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(kwargs=st.dictionaries(st.text(), JSON, max_size=3), name=st.text())
def test_any_arguments_of_a_task_load(kwargs: dict[str, Any], name: str) -> None:
    entry = {"task": "t", "schedule": 60, "kwargs": kwargs}

    loads(read_beat_schedule({name: entry}, timezone=None))


@given(
    spec=st.dictionaries(
        st.sampled_from(["schedule", "timeZone", "suspend", "jobTemplate", "concurrencyPolicy"]),
        JSON | st.just("0 6 * * *"),
    )
)
def test_any_specification_of_a_cronjob_loads(spec: dict[str, Any]) -> None:
    text = yaml.safe_dump({"kind": "CronJob", "metadata": {"name": "x"}, "spec": spec})

    with contextlib.suppress(ImportSourceError):
        loads(kubernetes(text))


def test_what_is_written_is_a_file_of_ours(tmp_path: Path) -> None:
    imported = crontab("CRON_TZ=Europe/Berlin\n# nightly\n30 2 * * * /bin/backup\n@reboot x\n")

    text = write_yaml(imported, "crontab")
    (tmp_path / "a.yaml").write_text(text)

    (schedule,) = load_directory(tmp_path).schedules
    assert (schedule.name, schedule.catchup) == ("backup", "none")
    assert "  # nightly\n" in text
    assert "  # NOT TRANSLATED: entry-4 (line 4)\n" in text


def test_nothing_translated_is_an_empty_list() -> None:
    assert write_yaml(crontab("@reboot x"), "crontab").count("schedules: []\n") == 1


def test_what_our_loader_would_refuse_becomes_untranslated_with_its_reason() -> None:
    (draft,) = settle([Draft("x", {"every": "1h", "job": "no blanks"}, "line 1")], {}).drafts

    assert draft.keys is None
    assert "'job' cannot be 'no blanks'" in draft.notes[0]


@pytest.mark.parametrize("text", ["1e3", "12e34", "010", "no", "y", "+5", "1_000", "1:30", "~", ""])
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    loads(settle([Draft("x", {"every": "1h", "job": "j", "args": {"a": text}}, "line 1")], {}))


@pytest.mark.parametrize("name", ["", " ", "x" * 500, "a\nb", "\u2028"])
def test_every_name_is_made_valid(name: str) -> None:
    (draft,) = settle([Draft(name, {"every": "1h", "job": "j"}, "line 1")], {}).drafts

    assert draft.keys is not None
