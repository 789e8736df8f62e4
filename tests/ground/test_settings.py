from __future__ import annotations

from typing import Any

import pytest

from pillars.ground.settings import (
    SETTINGS,
    Secret,
    Settings,
    SettingsError,
    duration,
    load_settings,
    setting_names,
)

URL = "postgresql://ann:hunter2@db:5432/app"


def faults(**environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    assert str(caught.value).splitlines() == list(caught.value.faults)
    return caught.value.faults


def test_without_any_settings_the_defaults_hold() -> None:
    assert load_settings({}) == Settings()


def test_settings_are_read_from_the_environment() -> None:
    settings = load_settings(
        {
            "PILLARS_DATABASE_URL": URL,
            "PILLARS_QUEUES": "mail, video,",
            "PILLARS_LEASE": "7500ms",
            "PILLARS_PORT": "0",
            "PILLARS_LOG": "json",
        },
    )

    assert settings == Settings(
        database_url=Secret(URL),
        queues=("mail", "video"),
        lease=7.5,
        port=0,
        log="json",
    )


def test_every_fault_is_told_at_once() -> None:
    assert faults(
        PILLARS_PORT="80000",
        PILLARS_CONCURRENCY="0",
        PILLARS_LOG="xml",
        PILLARS_APP="jobs",
        PILLARS_RETENTION="a day",
        PILLARS_LEASE="0.5",
        PILLARS_LOOKAHEAD="2m",
    ) == (
        "PILLARS_APP='jobs': not an app: write module:attribute, as in myproject.jobs:app",
        "PILLARS_PORT='80000': not a port: write a number from 0 (any free port) to 65535",
        "PILLARS_CONCURRENCY='0': not a count: write a whole number from 1",
        "PILLARS_RETENTION='a day': not a duration: write 5, 500ms, 15m, 1h30m or 7d",
        "PILLARS_LOG='xml': not a log format: write text or json",
        "PILLARS_LEASE=0.5: shorter than 1s expels healthy members",
        "PILLARS_LOOKAHEAD=120: more than 60s is of no use",
    )


def test_a_near_miss_of_a_name_is_a_fault() -> None:
    assert faults(PILLARS_DATABSE_URL=URL) == (
        "PILLARS_DATABSE_URL: no such setting, did you mean 'PILLARS_DATABASE_URL'?",
    )


def test_names_of_others_that_begin_like_ours_are_left_alone() -> None:
    others = {
        "PILLARS_SERVICE_HOST": "10.0.0.1",
        "PILLARS_PORT_8000_TCP_PROTO": "tcp",
        "PILLARS_COLOUR": "red",
    }

    assert load_settings(others) == Settings()


def test_kubernetes_port_variable_is_explained() -> None:
    (fault,) = faults(PILLARS_PORT="tcp://10.0.0.1:8000")

    assert "set by Kubernetes for a service called pillars" in fault
    assert "enableServiceLinks: false" in fault


def test_flags_win_over_the_environment_and_none_is_no_flag() -> None:
    settings = load_settings({"PILLARS_PORT": "1", "PILLARS_LEASE": "9"}, port=2, lease=None)

    assert (settings.port, settings.lease) == (2, 9.0)


def test_a_flag_is_held_to_the_same_limits() -> None:
    with pytest.raises(SettingsError, match="shorter than 1s"):
        load_settings({}, lease=0.1)


def test_an_empty_variable_is_not_set() -> None:
    assert load_settings({"PILLARS_PORT": "  ", "PILLARS_NAME": ""}) == Settings()


@pytest.mark.parametrize("name", ["PILLARS_DATABASE_URL", "PILLARS_DIRECT_DATABASE_URL"])
def test_a_fault_in_a_url_does_not_show_it(name: str) -> None:
    (fault,) = faults(**{name: "mysql://ann:hunter2@db/app"})

    assert fault.startswith(f"{name}=***: not a PostgreSQL URL")
    assert "hunter2" not in fault


def test_secrets_show_themselves_only_when_asked() -> None:
    settings = load_settings({"PILLARS_DATABASE_URL": URL, "PILLARS_API_TOKEN": "t0ken"})

    shown = f"{settings!r} {settings} {settings.database_url} {settings.api_token!r}"
    assert "hunter2" not in shown
    assert "t0ken" not in shown
    assert settings.api_token == Secret("t0ken")
    assert settings.database_url is not None
    assert settings.database_url.reveal() == URL


def test_a_secret_is_equal_by_value_and_to_no_plain_string() -> None:
    values: set[Any] = {Secret("a"), Secret("a"), Secret("b"), "a"}

    assert len(values) == 3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("5", 5.0),
        ("2.5", 2.5),
        ("500ms", 0.5),
        ("5s", 5.0),
        ("15m", 900.0),
        ("1h30m", 5_400.0),
        ("7d", 604_800.0),
        ("1.5h", 5_400.0),
    ],
)
def test_a_duration_reads_as_people_write_it(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "-5", "5 s", "5x", "m5", "1h 30m", "nan", "inf", "1e3"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        duration(text)


def test_every_setting_has_a_line_for_people() -> None:
    assert [setting.env for setting in SETTINGS if not setting.help] == []
    assert setting_names() == tuple(f"PILLARS_{s.field.upper()}" for s in SETTINGS)
