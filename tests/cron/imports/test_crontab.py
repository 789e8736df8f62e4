from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pillars.cron.imports.crontab import read_crontab

if TYPE_CHECKING:
    from pillars.cron.imports.draft import Draft, Imported


def read(text: str, **options: Any) -> Imported:
    return read_crontab(text, **{"job": "shell", "timezone": "UTC"} | options)


def one(text: str, **options: Any) -> Draft:
    (draft,) = read(text, **options).drafts
    return draft


def keys(text: str, **options: Any) -> dict[str, Any]:
    draft = one(text, **options)
    assert draft.keys is not None, draft.notes
    return dict(draft.keys)


def test_a_line_becomes_a_schedule_named_by_its_program() -> None:
    draft = one("30 2 * * Mon-FRI\t/usr/local/bin/backup.sh --full")

    assert draft.name == "backup"
    assert draft.keys == {
        "cron": "30 2 * * mon-fri",
        "job": "shell",
        "args": {"command": "/usr/local/bin/backup.sh --full"},
    }
    assert draft.notes == ()


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("cd /srv && ./manage.py clearsessions", "manage"),
        ("sudo -u x nice -n 10 /opt/run.sh", "x"),
        ("A=1 /opt/run.sh", "run"),
        ("python3 -m tool", "tool"),
        ("test -x /usr/sbin/anacron || /usr/sbin/anacron", "anacron"),
        ("'unbalanced", "unbalanced"),
        ("$(", "job"),
    ],
)
def test_names_come_from_commands(command: str, name: str) -> None:
    assert one(f"* * * * * {command}").name == name


def test_names_are_unique() -> None:
    assert [d.name for d in read("* * * * * a\n* * * * * a\n* * * * * a").drafts] == [
        "a",
        "a-2",
        "a-3",
    ]


def test_a_percent_sign_begins_standard_input_and_an_escaped_one_does_not() -> None:
    draft = one(r"0 9 * * * mail -s 5\% root%hello%world")

    assert draft.keys is not None
    assert draft.keys["args"] == {"command": "mail -s 5% root", "stdin": "hello\nworld\n"}
    assert "args.stdin" in draft.notes[0]


def test_variables_hold_for_the_lines_below_them() -> None:
    first, second = read('* * * * * a\nPATH = "/bin"\nTZ=Asia/Tokyo\n* * * * * b').drafts

    assert first.keys is not None
    assert second.keys is not None
    assert "env" not in first.keys["args"]
    assert second.keys["args"]["env"] == {"PATH": "/bin", "TZ": "Asia/Tokyo"}
    assert "timezone" not in second.keys


def test_cron_tz_is_the_time_zone_and_random_delay_the_jitter() -> None:
    found = keys("CRON_TZ=Europe/Berlin\nRANDOM_DELAY=15\n@daily x")

    assert (found["cron"], found["timezone"], found["jitter"]) == (
        "@daily",
        "Europe/Berlin",
        "15m",
    )


def test_an_assumed_time_zone_is_said() -> None:
    assert read("@daily x").notes == ()
    assert "UTC is assumed" in read("@daily x", timezone=None).notes[0]
    assert read("CRON_TZ=Asia/Tokyo\n@daily x", timezone=None).notes == ()


def test_mail_that_is_not_sent_is_said() -> None:
    assert read('MAILTO=""\n@daily x').notes == ()
    assert "no output is mailed" in read("MAILTO=root\n@daily x").notes[0]


def test_a_system_crontab_names_a_user() -> None:
    draft = one("17 *\t* * *\troot    cd / && run-parts /etc/cron.hourly", system=True)

    assert draft.keys is not None
    assert draft.keys["args"] == {"user": "root", "command": "cd / && run-parts /etc/cron.hourly"}
    assert "worker's user" in draft.notes[0]


def test_the_comment_above_a_line_is_kept() -> None:
    assert one("# old\n\n# nightly\n@daily x").comments == ("nightly",)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("5-5 * * * *", "5 * * * *"),
        ("*/61 * * * *", "0 * * * *"),
        ("0-30/45 * * * *", "0 * * * *"),
        ("10-50/20 * * * *", "10-50/20 * * * *"),
        ("0 0 * * 5-7/2", "0 0 * * 5,7"),
        ("0 0 * * 0-7", "0 0 * * 0-7"),
        ("0 0 1,15 * *", "0 0 1,15 * *"),
        ("0~29 ~ * * *", "H(0-29) H * * *"),
        ("@every_minute", "* * * * *"),
        ("-*/5 * * * *", "*/5 * * * *"),
    ],
)
def test_times_of_other_crons_are_made_ours(theirs: str, ours: str) -> None:
    assert keys(f"{theirs} x")["cron"] == ours


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("@reboot x", "start of a machine"),
        ("@fortnightly x", "unknown"),
        ("* * * *", "five fields and a command"),
        ("0 0 */2 * mon x", "must both match"),
        ("0 0 31 2 * x", "never fires"),
        ("99 0 * * * x", "out of range"),
        ("@daily", "no command"),
    ],
)
def test_what_cannot_be_translated_is_said(line: str, said: str) -> None:
    draft = one(line)

    assert draft.keys is None
    assert said in " ".join(draft.notes)
    assert draft.original == line


def test_day_or_weekday_means_the_same_there() -> None:
    assert keys("0 9 1 * mon x")["cron"] == "0 9 1 * mon"
