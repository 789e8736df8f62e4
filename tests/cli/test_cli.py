from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pillars.ground.settings import setting_names
from tests.cli.conftest import TWO_SCHEDULES
from tests.conftest import database_url
from tests.helpers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pillars.ground.settings import Secret
    from tests.cli.conftest import Shell

NOBODY = "postgresql://joe:s3cret@127.0.0.1:1/x"


@pytest.fixture
def empty_database(postgres: Secret) -> Iterator[Secret]:
    """The URL of a database that Pillars has never seen."""
    with psycopg.connect(postgres.reveal(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE empty_cli")
        yield database_url(postgres, "empty_cli")
        admin.execute("DROP DATABASE empty_cli WITH (FORCE)")


def join(sql: psycopg.Connection[Any], role: str, name: str) -> str:
    member = str(uuid4())
    sql.execute(
        "INSERT INTO pillars.members (id, role, name, state, pid, url, app_version)"
        " VALUES (%s, %s, %s, 'active', 12345, 'http://127.0.0.1:9', '0')",
        (member, role, name),
    )
    return member


# ---- status


def test_status_as_json_has_the_promised_shape(
    with_schedules: Shell, sql: psycopg.Connection[Any]
) -> None:
    member = join(sql, "cron", "cron-1")
    sql.execute(
        "UPDATE pillars.ring SET version = 7, map = array_fill(%s::uuid, '{4096}')", (member,)
    )
    with_schedules.says("jobs", "enqueue", "log")
    with_schedules.says("jobs", "enqueue", "log", "--delay", "1h")

    status = with_schedules.tells("status")

    assert 0 <= status["members"][0].pop("heartbeat_age")
    assert 0 <= status["queues"][0].pop("oldest")
    assert status == {
        "ring": {"version": 7, "slots": 4096},
        "members": [
            {
                "id": member,
                "role": "cron",
                "name": "cron-1",
                "state": "active",
                "pid": 12345,
                "slots": 4096,
                "schedules": 2,
                "url": "http://127.0.0.1:9",
            },
        ],
        "queues": [
            {
                "queue": "default",
                "available": 1,
                "running": 0,
                "failed": 0,
                "scheduled": 1,
                "concurrency": None,
                "rate": None,
                "burst": None,
                "paused_at": None,
            },
        ],
        "ticks": {
            "overdue_for": 0.0,
            "recent": {"ticks": 0, "p50": 0.0, "p99": 0.0, "longest": 0.0},
        },
    }


def test_status_tells_how_late_ticks_are(here: Shell, sql: psycopg.Connection[Any]) -> None:
    for late in (0.25, -4.0):
        sql.execute(
            "INSERT INTO pillars.jobs (type, schedule_id, fire_at, reason) "
            "VALUES ('noop', 1, now() - make_interval(secs => %s), NULL)",
            (late,),
        )
    # One that was fired late on purpose does not count.
    sql.execute(
        "INSERT INTO pillars.jobs (type, schedule_id, fire_at, reason) "
        "VALUES ('noop', 1, now() - interval '1 day', 'backfilled')"
    )

    assert here.says("status").splitlines()[1] == (
        "ticks: none is overdue; the newest 2 were late by 0.125s in the median, "
        "0.247s at the 99th percentile, 0.250s at most"
    )


def test_status_is_watched_by_people_alone(shell: Shell) -> None:
    assert shell.refuses("status", "--watch", "--json") == (
        "--watch is for people: with --json, call `pillars status` again and again"
    )


def test_status_is_watched_through_an_absence_of_the_database_until_it_is_interrupted(
    sql: psycopg.Connection[Any], dsn: Secret, postgres: Secret
) -> None:
    terminal, inner = pty.openpty()
    join(sql, "cron", "cron-1")
    environment = {**os.environ, "PILLARS_DATABASE_URL": dsn.reveal(), "COLUMNS": "200"}
    with subprocess.Popen(
        [sys.executable, "-m", "pillars", "status", "--watch"],
        env=environment,
        stdin=inner,
        stdout=inner,
        stderr=inner,
    ) as watching:
        os.close(inner)
        read_until(terminal, "cron-1")
        with psycopg.connect(postgres.reveal(), autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {sql.info.dbname} ALLOW_CONNECTIONS false")
            sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            read_until(terminal, "does not answer")
            admin.execute(f"ALTER DATABASE {sql.info.dbname} ALLOW_CONNECTIONS true")
        join(sql, "cron", "cron-2")
        read_until(terminal, "cron-2")
        watching.send_signal(signal.SIGINT)
        # Whoever does not read what is written to a terminal holds up its writer.
        with suppress(OSError):
            read_until(terminal, "what is never said")
        assert watching.wait(PATIENCE) == 130
    os.close(terminal)


def read_until(terminal: int, word: str) -> None:
    """Read what is shown until a word comes."""
    shown = ""
    while word not in shown:
        shown += os.read(terminal, 10_000).decode(errors="replace")


def test_status_for_people_shows_members_and_queues(
    here: Shell, sql: psycopg.Connection[Any]
) -> None:
    join(sql, "cron", "cron-1")
    join(sql, "worker", "worker-1")
    here.says("jobs", "enqueue", "log", "--queue", "mail")

    words = [line.split() for line in here.says("status").splitlines()]

    assert words[0] == ["ring", "version", "0,", "4,096", "slots"]
    assert ["cron", "cron-1", "active", "12345", "0", "0"] in [line[:6] for line in words]
    assert ["worker", "worker-1", "active", "12345"] in [line[:4] for line in words]
    assert ["mail", "1", "0", "0", "0"] in [line[:5] for line in words]


def test_status_of_an_idle_database_says_what_to_do(here: Shell) -> None:
    assert here.says("status") == (
        "ring version 0, 4,096 slots\n"
        "ticks: none is overdue\n"
        "\n"
        "no process is alive: run `pillars up`\n"
        "\n"
        "the queues are empty\n"
    )
    assert here.tells("status")["members"] == []


# ---- jobs


def test_a_job_is_enqueued_with_all_that_was_said(here: Shell) -> None:
    words = ("--queue", "mail", "--priority", "-3", "--delay", "2h", "--max-attempts", "4")

    key = here.tells("jobs", "enqueue", "log", "--args", '{"message": "hello"}', *words)["id"]

    job = here.tells("jobs", "show", str(key))
    assert {name: job[name] for name in ("type", "args", "queue", "priority", "max_attempts")} == {
        "type": "log",
        "args": {"message": "hello"},
        "queue": "mail",
        "priority": -3,
        "max_attempts": 4,
    }
    assert job["run_at"][:19] > job["created_at"][:19]
    assert job["run_at"].endswith("Z")


def test_a_job_is_enqueued_with_keys_and_limits(here: Shell, sql: psycopg.Connection[Any]) -> None:
    here.says(
        *("jobs", "enqueue", "log", "--run-at", "2030-01-01T10:00:00+02:00", "--timeout", "1m30s"),
        *("--unique-key", "u", "--unique-for", "1h", "--concurrency-key", "c"),
        *("--concurrency-limit", "3", "--expires-in", "10m"),
    )

    job = here.tells("jobs", "show", "1")
    (limit, kept) = sql.execute(
        "SELECT concurrency_limit, unique_until - created_at = '1 hour' FROM pillars.jobs"
    ).fetchall()[0]
    assert (limit, kept) == (3, True)
    names = ("run_at", "timeout", "unique_key", "concurrency_key", "expires_at")
    assert {name: job[name] for name in names} == {
        "run_at": "2030-01-01T08:00:00Z",
        "timeout": 90.0,
        "unique_key": "u",
        "concurrency_key": "c",
        "expires_at": "2030-01-01T08:10:00Z",
    }


def test_a_unique_key_that_is_taken_is_told(here: Shell) -> None:
    words = ("jobs", "enqueue", "log", "--unique-key", "u")

    assert here.tells(*words) == {"id": 1, "enqueued": True}
    assert here.tells(*words) == {"id": 1, "enqueued": False}
    assert here.says(*words) == "nothing enqueued: job 1 holds the unique key\n"


def test_enqueue_says_the_id_and_the_queue(here: Shell) -> None:
    assert here.says("jobs", "enqueue", "log") == "job 1 is on the queue 'default'\n"


def test_jobs_are_listed_newest_first_and_page_by_page(here: Shell) -> None:
    for kind in ("a", "b", "c"):
        here.says("jobs", "enqueue", kind)

    assert [job["type"] for job in here.tells("jobs", "list", "--limit", "2")] == ["c", "b"]
    assert [job["type"] for job in here.tells("jobs", "list", "--before", "2")] == ["a"]
    assert [line.split()[:2] for line in here.says("jobs", "list").splitlines()] == [
        ["ID", "TYPE"],
        ["3", "c"],
        ["2", "b"],
        ["1", "a"],
    ]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--state", "cancelled"), ["b"]),
        (("--type", "a"), ["a"]),
        (("--queue", "mail"), ["b"]),
        (("--schedule", "s"), []),
    ],
)
def test_jobs_are_found_by_what_they_are(
    here: Shell, flags: tuple[str, str], expected: list[str]
) -> None:
    here.says("jobs", "enqueue", "a")
    here.says("jobs", "enqueue", "b", "--queue", "mail")
    here.says("jobs", "cancel", "2")

    assert [job["type"] for job in here.tells("jobs", "list", *flags)] == expected


def test_no_jobs_is_a_sentence_for_people_and_an_empty_list_for_scripts(here: Shell) -> None:
    assert here.says("jobs", "list") == "no jobs\n"
    assert here.tells("jobs", "list") == []


def test_a_long_error_shows_its_last_line_in_the_list_and_all_of_it_alone(
    here: Shell, sql: psycopg.Connection[Any]
) -> None:
    here.says("jobs", "enqueue", "a")
    sql.execute(
        "UPDATE pillars.jobs SET state = 'dead', finished_at = now(), error = %s",
        ("Traceback\n  line 2\nValueError: no [bold] luck",),
    )

    assert here.says("jobs", "list").splitlines()[1].endswith("ValueError: no [bold] luck")
    assert re.search(r"^error +Traceback\n +line 2\n", here.says("jobs", "show", "1"), re.MULTILINE)


def test_the_id_of_a_job_is_shown_as_it_is_typed(here: Shell, sql: psycopg.Connection[Any]) -> None:
    sql.execute("ALTER TABLE pillars.jobs ALTER id RESTART 1234567")
    here.says("jobs", "enqueue", "a")

    assert here.says("jobs", "list").splitlines()[1].split()[0] == "1234567"
    assert here.says("jobs", "show", "1234567").splitlines()[0].split() == ["id", "1234567"]


def test_a_cancelled_job_can_be_tried_again_and_forgets_why_it_was_cancelled(here: Shell) -> None:
    here.says("jobs", "enqueue", "a")

    assert here.says("jobs", "cancel", "1") == "job 1 is cancelled\n"
    assert here.tells("jobs", "show", "1")["reason"] == "cancelled by command"
    assert here.says("jobs", "retry", "1") == "job 1 is available again\n"
    job = here.tells("jobs", "show", "1")
    assert (job["state"], job["reason"], job["finished_at"]) == ("available", None, None)


def test_many_jobs_can_be_tried_again_at_once(here: Shell) -> None:
    for type_ in ("a", "a", "b"):
        here.says("jobs", "enqueue", type_)
    for job_id in ("1", "2", "3"):
        here.says("jobs", "cancel", job_id)
    bulk = ("jobs", "retry", "--state", "cancelled", "--type", "a")

    assert here.says(*bulk, "--limit", "1") == "1 job is available again\n"
    assert here.says(*bulk) == "1 job is available again\n"
    assert here.says(*bulk) == "0 jobs are available again\n"
    assert [job["state"] for job in here.tells("jobs", "list")] == [
        "cancelled",
        "available",
        "available",
    ]


def test_a_retry_is_for_one_job_or_for_many(here: Shell) -> None:
    sentence = "give the ID of one job, or the --state of many, as in --state dead"

    for flags in ((), ("1", "--state", "dead"), ("1", "--type", "a"), ("--type", "a")):
        assert here.refuses("jobs", "retry", *flags) == sentence


def test_what_a_job_cannot_do_now_is_a_sentence(here: Shell) -> None:
    here.says("jobs", "enqueue", "a")

    assert here.fails("jobs", "retry", "1") == "job 1 is available: it cannot be retried"
    for verb in ("show", "retry", "cancel"):
        assert here.fails("jobs", verb, "77") == "there is no job 77"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--args", "{"), "--args is not JSON"),
        (("--args", '{"a":' * 100_000), "--args is not JSON (it is nested too deeply)"),
        (("--args", f'{{"a": {"9" * 5_000}}}'), "--args is not JSON (Exceeds the limit"),
        (("--args", "[1]"), "--args is not a JSON object: write --args '{\"key\": 1}'"),
        (("--args", '{"a": NaN}'), "args of 'log' are not a JSON object"),
        (("--args", '{"a": "\\u0000"}'), "args of 'log' hold a NUL character"),
        (("--delay", "soon"), "--delay soon: not a duration: write 5, 500ms, 15m, 1h30m or 7d"),
        (("--delay", "999999999d"), "delay 86399999913600.0 is out of range"),
        (("--run-at", "2030-01-01"), "--run-at 2030-01-01: write it like 2026-12-01T09:00:00Z or"),
        (("--run-at", "soon"), "--run-at soon: write it like 2026-12-01T09:00:00Z or"),
        (("--unique-for", "1h"), "unique_for needs a unique_key"),
        (("--concurrency-limit", "2"), "concurrency_limit needs a concurrency_key"),
        (("--expires-in", "0"), "expires_in 0.0 is out of range"),
        (("--priority", "99999"), "priority 99999 is out of range: -32768 (first) to 32767"),
        (("--max-attempts", "99999"), "max_attempts 99999 is out of range: 1 to 32767"),
        (("--max-attempts", "0"), "pillars jobs enqueue: error: argument --max-attempts: '0'"),
        (("--queue", "a b"), "queue 'a b' is not a name"),
    ],
)
def test_a_job_that_cannot_be_is_refused_before_any_database_is_asked(
    shell: Shell, flags: tuple[str, str], sentence: str
) -> None:
    assert shell.refuses("jobs", "enqueue", "log", *flags).startswith(sentence)


# ---- schedules


def test_right_files_are_counted_and_suspicious_ones_warned_about(shell: Shell) -> None:
    shell.write(TWO_SCHEDULES)
    assert shell.says("schedules", "check") == "all right; schedules: 2, files: 1\n"

    shell.write("schedules:\n  - {name: leap, cron: '0 0 31 * *', job: noop}\n")
    found = shell.tells("schedules", "check")
    assert (found["ok"], found["files"], found["schedules"]) == (True, ["a.yaml"], 1)
    assert re.fullmatch("[0-9a-f]{32}", found["digest"])


def test_every_fault_of_every_file_is_told_at_once(shell: Shell) -> None:
    shell.write("schedules:\n  - {name: tick, evry: 10s, job: noop}\n")
    shell.write("schedules:\n  - {name: b, cron: '0 99 * * *', job: log}\n", "b.yaml")

    code, out, err = shell.run("schedules", "check")

    directory = shell.directory
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        f"{directory}/a.yaml:2:5: give one of cron, every and at",
        f"{directory}/a.yaml:2:18: unknown key 'evry', did you mean 'every'?",
        f"{directory}/b.yaml:2:15: hour '99': 99 is out of range, hours are 0 to 23",
    ]
    for verb in ("diff", "apply"):
        told = shell.run("schedules", verb)
        assert told == (1, "", "".join(f"pillars: {line}\n" for line in err.splitlines()))


def test_faults_can_be_read_by_scripts(shell: Shell) -> None:
    shell.write("schedules: 3\n")

    code, out, err = shell.run("schedules", "check", "--json")

    assert (code, err) == (1, "")
    found = json.loads(out)
    assert not found["ok"]
    assert len(found["faults"]) == 1


def test_a_directory_without_files_deletes_no_schedule(with_schedules: Shell) -> None:
    (with_schedules.directory / "a.yaml").unlink()

    for verb in ("check", "apply", "diff"):
        sentence = with_schedules.fails("schedules", verb)
        assert sentence.startswith(f"{with_schedules.directory} holds no .yaml file: ")
    assert len(with_schedules.tells("schedules", "list")) == 2


def test_a_missing_directory_is_named(here: Shell) -> None:
    words = ("--schedules-dir", "/no/such")

    assert here.fails("schedules", "check", *words) == "/no/such: there is no such directory"
    assert here.fails("schedules", "diff", *words) == "/no/such: there is no such directory"


def test_diff_shows_what_apply_then_does(with_schedules: Shell) -> None:
    with_schedules.write(
        "schedules:\n"
        "  - {name: tick, every: 20s, job: noop}\n"
        "  - {name: new, every: 1h, job: noop}\n"
    )

    told = with_schedules.tells("schedules", "diff")
    assert [told[kind] for kind in ("added", "changed", "removed")] == [
        ["new"],
        ["tick"],
        ["report"],
    ]
    assert with_schedules.says("schedules", "apply") == (
        "2 schedules in force: 1 added, 1 changed, 1 removed\n"
    )
    assert with_schedules.says("schedules", "diff") == "nothing would change\n"
    assert with_schedules.tells("schedules", "apply")["changed"] == 0


def test_a_name_that_belongs_to_the_api_is_refused(
    with_schedules: Shell, sql: psycopg.Connection[Any]
) -> None:
    sql.execute("UPDATE pillars.schedules SET source = 'api' WHERE name = 'tick'")

    sentence = with_schedules.fails("schedules", "apply")

    assert sentence == (
        "a.yaml:2: schedule 'tick' was made by api: rename it here, "
        "or `pillars schedules remove tick` first"
    )


def test_schedules_are_listed_by_name_or_by_what_comes_next(
    with_schedules: Shell, sql: psycopg.Connection[Any]
) -> None:
    sql.execute("UPDATE pillars.schedules SET next_fire_at = '2030-01-01' WHERE name = 'tick'")
    sql.execute("UPDATE pillars.schedules SET next_fire_at = '2031-01-01' WHERE name = 'report'")

    lines = [
        re.split(" {2,}", line) for line in with_schedules.says("schedules", "list").split("\n")
    ]
    soonest = with_schedules.tells("schedules", "list", "--soonest", "--limit", "1")

    assert lines[0][:4] == ["NAME", "WHEN", "JOB", "STATE"]
    assert lines[1] == [
        "report",
        "cron 0 9 * * mon (Europe/Berlin)",
        "log",
        "active",
        "2031-01-01 00:00:00",
        "a.yaml:3",
    ]
    assert [record["name"] for record in soonest] == ["tick"]


def test_instants_are_told_in_utc_whatever_the_zone_of_the_session(
    with_schedules: Shell,
    sql: psycopg.Connection[Any],
    dsn: Secret,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sql.execute("UPDATE pillars.schedules SET next_fire_at = '2030-01-01T00:00:00Z'")
    elsewhere = make_conninfo(dsn.reveal(), options="-c TimeZone=Asia/Tokyo")
    monkeypatch.setenv("PILLARS_DATABASE_URL", elsewhere)

    shown = with_schedules.tells("schedules", "show", "tick")

    assert shown["next_fire_at"] == "2030-01-01T00:00:00Z"
    assert "2030-01-01 00:00:00" in with_schedules.says("schedules", "list")


def test_no_schedules_is_a_sentence_with_what_to_do(here: Shell) -> None:
    assert here.says("schedules", "list") == (
        "no schedules: put a YAML file into the schedules directory\n"
    )


def test_one_schedule_is_shown_with_its_definition(with_schedules: Shell) -> None:
    shown = dict(
        re.split(" {2,}", line, maxsplit=1)
        for line in with_schedules.says("schedules", "show", "report").splitlines()
    )

    assert shown["when"] == "cron 0 9 * * mon (Europe/Berlin)"
    assert shown["source"] == "a.yaml:3"
    assert shown["slot"] == str(with_schedules.tells("schedules", "show", "report")["slot"])
    assert json.loads(shown["definition"])["args"] == {"message": "[hello]"}


def test_next_shows_the_zone_of_the_schedule_beside_utc(with_schedules: Shell) -> None:
    lines = with_schedules.says("schedules", "next", "report", "-n", "3").splitlines()

    assert lines[0].split() == ["Europe/Berlin", "UTC"]
    assert [re.search(r"^Mon .* 09:00:00 \+0[12]00 ", line) is not None for line in lines[1:]] == [
        True,
        True,
        True,
    ]
    instants = with_schedules.tells("schedules", "next", "report")
    assert len(instants) == 10
    assert instants == sorted(instants)


def test_next_tells_that_nothing_comes_of_it(with_schedules: Shell) -> None:
    with_schedules.write("schedules:\n  - {name: once, at: '2020-01-01T00:00:00Z', job: noop}\n")
    with_schedules.says("schedules", "apply")

    assert with_schedules.says("schedules", "next", "once") == "once does not fire any more\n"


def test_history_tells_what_became_of_ticks(
    with_schedules: Shell, sql: psycopg.Connection[Any]
) -> None:
    assert with_schedules.says("schedules", "history", "tick") == "tick has not fired yet\n"
    sql.execute(
        "INSERT INTO pillars.jobs (schedule_id, fire_at, finished_at, state, type, reason, ticks,"
        " fire_until) SELECT id, '2020-01-01', now(), 'missed', 'noop', 'cron was down', 1500,"
        " '2020-01-02' FROM pillars.schedules WHERE name = 'tick'"
    )

    lines = with_schedules.says("schedules", "history", "tick").splitlines()

    assert re.split(" {2,}", lines[1]) == [
        "2020-01-01 00:00:00",
        "2020-01-02 00:00:00",
        "1,500",
        "missed",
        "1",
        "cron was down",
    ]
    assert [job["ticks"] for job in with_schedules.tells("schedules", "history", "tick")] == [1500]


def test_history_shows_what_was_due_and_counts_what_is_enqueued_ahead(
    with_schedules: Shell, sql: psycopg.Connection[Any]
) -> None:
    sql.execute(
        "INSERT INTO pillars.jobs (schedule_id, fire_at, type) "
        "SELECT id, now() + n * interval '1 h', 'noop' "
        "FROM pillars.schedules, generate_series(-2, 3) AS n WHERE name = 'tick'"
    )
    sql.execute(
        "INSERT INTO pillars.withdrawn_ticks (schedule_id, fire_at, schedule, reason) "
        "SELECT id, now() + interval '4 h', name, 'its timing was edited' "
        "FROM pillars.schedules WHERE name = 'tick'"
    )
    words = ("schedules", "history", "tick")

    lines = with_schedules.says(*words, "--limit", "2").splitlines()

    assert len(lines) == 4
    assert re.fullmatch(
        "and 3 enqueued ahead of their time, until [0-9:]{8}; --ahead shows them", lines[3]
    )
    assert len(with_schedules.tells(*words)) == 3
    assert len(with_schedules.tells(*words, "--ahead")) == 7
    assert len(with_schedules.tells(*words, "--outcome", "enqueued")) == 6


def test_a_schedule_is_fired_by_hand_and_a_tick_that_overlaps_is_refused(
    with_schedules: Shell,
) -> None:
    with_schedules.write("schedules:\n  - {name: one, every: 1h, job: noop, overlap: skip}\n")
    with_schedules.says("schedules", "apply")

    assert with_schedules.says("schedules", "fire", "one") == (
        "job 1 is on queue default: fired by hand\n"
    )
    code, said, _ = with_schedules.run("schedules", "fire", "one")
    assert (code, said) == (
        1,
        (
            "one is not fired: fired by hand; overlap: skip, and the job of an earlier tick has "
            "not ended; --force lets it run all the same\n"
        ),
    )
    assert with_schedules.tells("schedules", "fire", "one", "--force")["state"] == "available"
    listed = with_schedules.tells("schedules", "history", "one", "--outcome", "enqueued")
    assert [each["job_id"] for each in listed] == [3, 1]


def test_past_ticks_are_backfilled_once(with_schedules: Shell) -> None:
    span = ("--from", "2020-01-01T00:00:00Z", "--to", "2020-01-01T00:01:00Z", "--pace", "5")
    said = "tick, 2020-01-01 00:00:00 to 2020-01-01 00:01:00 UTC: "

    assert with_schedules.says("schedules", "backfill", "tick", *span, "--dry-run") == (
        f"{said}6 of 6 ticks would be enqueued; the last may start in 1s\n"
    )
    assert with_schedules.tells("schedules", "backfill", "tick", *span)["enqueued"] == 6
    assert with_schedules.says("schedules", "backfill", "tick", *span) == (
        f"{said}0 of 6 ticks are enqueued, the others have a job\n"
    )


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        ("yesterday", "--from 'yesterday' must be a time like 2026-12-01T09:00:00, with or"),
        ("2020-13-01", "--from '2020-13-01' is no time: month must be in 1..12"),
    ],
)
def test_a_backfill_from_no_time_is_refused(shell: Shell, start: str, sentence: str) -> None:
    words = ("schedules", "backfill", "tick", "--from", start, "--to", "2020-01-02")

    assert shell.refuses(*words).startswith(sentence)


def test_a_schedule_is_paused_and_goes_on(with_schedules: Shell) -> None:
    assert with_schedules.says("schedules", "pause", "tick") == (
        "tick is paused; its jobs that were not due are taken back\n"
    )
    assert with_schedules.tells("schedules", "show", "tick")["enabled"] is False
    assert with_schedules.says("schedules", "next", "tick").splitlines()[-1] == (
        "tick is paused: none of these will be fired"
    )
    assert with_schedules.says("schedules", "resume", "tick") == (
        "tick goes on from now; the time it was paused is not caught up\n"
    )
    assert with_schedules.tells("schedules", "show", "tick")["enabled"] is True


def test_resume_does_not_promise_what_the_definition_forbids(with_schedules: Shell) -> None:
    with_schedules.write("schedules:\n  - {name: quiet, every: 1h, job: noop, enabled: false}\n")
    with_schedules.says("schedules", "apply")

    assert with_schedules.says("schedules", "resume", "quiet") == (
        "quiet is not paused, but its definition says `enabled: false`\n"
    )


def test_a_schedule_is_removed(with_schedules: Shell) -> None:
    assert with_schedules.says("schedules", "remove", "tick") == "tick is removed\n"
    assert [each["name"] for each in with_schedules.tells("schedules", "list")] == ["report"]


@pytest.mark.parametrize("verb", ["show", "next", "history", "fire", "pause", "resume", "remove"])
def test_an_unknown_schedule_gets_a_guess_at_what_was_meant(
    with_schedules: Shell, verb: str
) -> None:
    assert with_schedules.fails("schedules", verb, "tik") == (
        "there is no schedule 'tik', did you mean 'tick'?"
    )


# ---- the database


def test_migrate_makes_the_schema_once(
    shell: Shell, empty_database: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILLARS_DATABASE_URL", empty_database.reveal())
    no_tables = "this database has no Pillars tables yet: run `pillars migrate`"
    for words in (
        ("status",),
        ("jobs", "list", "--state", "dead"),
        ("jobs", "enqueue", "log"),
        ("schedules", "list"),
        ("schedules", "pause", "tick"),
    ):
        assert shell.fails(*words) == no_tables

    assert re.fullmatch(r"\d+ migrations applied\n", shell.says("migrate"))
    assert shell.says("migrate") == "the schema is up to date\n"
    assert shell.tells("status")["queues"] == []


def test_tables_of_an_older_version_are_a_sentence(
    here: Shell, sql: psycopg.Connection[Any]
) -> None:
    sql.execute("ALTER TABLE pillars.jobs DROP reason")

    assert here.fails("jobs", "list") == (
        "this database's tables are older than this Pillars: run `pillars migrate`"
    )


def test_a_user_without_rights_is_a_sentence(
    here: Shell, sql: psycopg.Connection[Any], dsn: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql.execute("CREATE ROLE cli_stranger LOGIN")
    try:
        url = make_conninfo(dsn.reveal(), user="cli_stranger")
        monkeypatch.setenv("PILLARS_DATABASE_URL", url)
        assert here.fails("status") == (
            "this database user lacks a right (permission denied for schema pillars): ask its owner"
        )
    finally:
        sql.execute("DROP ROLE cli_stranger")


def test_a_database_out_of_reach_is_one_sentence_without_the_password(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILLARS_DATABASE_URL", NOBODY)

    for words in (("status",), ("jobs", "list"), ("schedules", "list"), ("migrate",)):
        sentence = shell.fails(*words)
        assert sentence.startswith(
            "the database cannot be reached: is it running, and is PILLARS_DATABASE_URL right? ("
        )
        assert "Connection refused" in sentence
        assert "s3cret" not in sentence
        assert "\n" not in sentence


def test_a_database_that_does_not_exist_is_named(
    here: Shell, postgres: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILLARS_DATABASE_URL", database_url(postgres, "no_such").reveal())

    assert 'database "no_such" does not exist' in here.fails("status")


@pytest.mark.parametrize(
    ("url", "code"),
    [("mysql://joe:s3cret@host", 2), ("postgresql://joe:s3cret%zz@host/x", 1)],
)
def test_a_url_that_is_none_is_explained_without_the_password(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, url: str, code: int
) -> None:
    monkeypatch.setenv("PILLARS_DATABASE_URL", url)

    got, out, err = shell.run("status")

    assert (got, out) == (code, "")
    assert "write postgresql://user:password@host:5432/database" in err
    assert "s3cret" not in err


def test_no_database_at_all_says_both_ways_to_have_one(shell: Shell, tmp_path: Path) -> None:
    sentence = (
        "no database: PILLARS_DATABASE_URL is not set, and no `pillars up` runs with its data in "
    )

    for words in (("status",), ("jobs", "list"), ("schedules", "list"), ("migrate",)):
        assert shell.fails(*words) == f"{sentence}{tmp_path / 'data'}"


def test_dsn_without_a_running_database_is_a_sentence(shell: Shell, tmp_path: Path) -> None:
    assert shell.fails("dsn") == (
        f"no PostgreSQL runs in {tmp_path / 'data'}: start it with `pillars up`, "
        "or name its directory with --data-dir"
    )


# ---- the parser and the settings


def test_help_names_every_command_and_every_setting(shell: Shell) -> None:
    text = shell.says("--help")

    for command in ("up", "server", "worker", "cron", "migrate", "dsn", "status", "jobs"):
        assert f"    {command} " in text
    for name in setting_names():
        assert f"  {name} " in text


@pytest.mark.parametrize(
    "words",
    [
        *(("up",), ("server",), ("worker",), ("cron",), ("migrate",), ("dsn",), ("status",)),
        *(("jobs", verb) for verb in ("enqueue", "list", "show", "retry", "cancel")),
        *(("schedules", verb) for verb in ("check", "diff", "apply", "list", "show", "next")),
        *(("schedules", verb) for verb in ("history", "fire", "backfill", "pause", "resume")),
        ("schedules", "remove"),
    ],
    ids=" ".join,
)
def test_every_command_has_help(shell: Shell, words: tuple[str, ...]) -> None:
    text = shell.says(*words, "--help")

    assert text.startswith(f"usage: pillars {' '.join(words)} ")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("jobs",),
        ("schedules",),
        ("jbs",),
        ("status", "--jsn"),
        ("jobs", "show", "x"),
        ("jobs", "show", "-1"),
        ("jobs", "show", "9" * 30),
        ("jobs", "list", "--before", "9" * 30),
        ("jobs", "list", "--limit", "9" * 5000),
        ("jobs", "list", "--state", "asleep"),
        ("schedules", "next", "tick", "-n", "1000000000"),
        ("up", "--port", "70000"),
        ("up", "--cron", "0"),
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_wrong_usage_is_told_with_exit_code_2(shell: Shell, words: tuple[str, ...]) -> None:
    assert "error: " in shell.refuses(*words)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("sttaus", "there is no 'sttaus', did you mean 'status'? (up, server, "),
        ("schedules lst", "there is no 'lst', did you mean 'list'? (check, diff, "),
        ("jobs list --state deda", "there is no 'deda', did you mean 'dead'? (available, "),
        ("jobs enqueue log --agrs {}", "unknown argument '--agrs', did you mean '--args'?"),
        (
            "worker --concurency=3",
            "unknown argument '--concurency=3', did you mean '--concurrency'?",
        ),
        ("loadtest --bogus", "unknown argument '--bogus'; --help shows those there are"),
        ("loadtest --schedule-count 5", "unknown argument '--schedule-count'"),
        ("loadtest --mix hred", "there is no 'hred', did you mean 'herd'? (each-second, "),
        ("--jsn status", "unknown argument '--jsn', did you mean '--json'?"),
        ("status now", "unknown argument 'now'; --help shows those there are"),
        ("worker --concurrency zero", "--concurrency: 'zero' is not a whole number, 1 or more"),
    ],
)
def test_a_slip_of_the_keys_is_answered_with_what_was_meant(
    shell: Shell, words: str, answer: str
) -> None:
    assert answer in shell.refuses(*words.split())


def test_every_wrong_setting_is_told_at_once(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILLARS_LEASE", "x")
    monkeypatch.setenv("PILLARS_PORT", "y")

    code, out, err = shell.run("status")

    assert (code, out) == (2, "")
    assert [line.split(": ")[1] for line in err.splitlines()] == [
        "PILLARS_LEASE='x'",
        "PILLARS_PORT='y'",
    ]


@pytest.mark.parametrize(
    ("words", "queue", "warning"),
    [
        ("enqueue mail.welcome --app mails:app", "mail", ""),
        ("enqueue mail.welcome --app mails:app --queue slow", "slow", ""),
        (
            "enqueue mail.wlecome --app mails:app",
            "default",
            (
                "pillars: warning: mails:app has no job type 'mail.wlecome', "
                "did you mean 'mail.welcome'?\n"
            ),
        ),
        ("enqueue mail.welcome", "default", ""),
        (
            "enqueue lgo",
            "default",
            "pillars: 'lgo' is no type of Pillars' own, did you mean 'log'?\n",
        ),
    ],
)
def test_a_job_goes_to_its_types_queue_and_a_type_that_the_application_lacks_is_told(
    here: Shell,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: str,
    queue: str,
    warning: str,
) -> None:
    (tmp_path / "mails.py").write_text(
        "from pillars import App\napp = App()\n"
        "@app.job('mail.welcome', queue='mail')\ndef welcome(): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    assert here.run("jobs", *words.split()) == (
        0,
        f"job 1 is on the queue {queue!r}\n",
        warning,
    )


# ---- schedules in code

CODE = """
from pillars import App
app = App()
app.schedule("in-code", job="noop", cron="0 0 13 * fri")
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of an application with a schedule in code."""
    name = f"code_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    return f"{name}:app"


def test_check_counts_schedules_in_code_and_warns_of_them(shell: Shell, app: str) -> None:
    shell.write(TWO_SCHEDULES)

    told = shell.says("schedules", "check", "--app", app).splitlines()

    assert told[0].startswith(f"warning: {app.partition(':')[0]}:4: cron: ")
    assert told[-1] == "all right; schedules: 3 (1 in code), files: 1"


def test_check_tells_faults_of_files_and_of_the_app_together(shell: Shell) -> None:
    shell.write("schedules: 3\n")

    faults = shell.fails("schedules", "check", "--app", "nowhere.at.all:app").splitlines()

    assert "there is no module 'nowhere'" in faults[0]
    assert "a.yaml:1" in faults[1]


def test_check_finds_a_name_in_a_file_and_in_code(shell: Shell, app: str) -> None:
    shell.write("schedules:\n  - {name: in-code, every: 1h, job: noop}\n")

    fault = shell.fails("schedules", "check", "--app", app)

    assert "a.yaml:2: the name 'in-code' is already used in code" in fault


def test_apply_and_diff_take_files_and_code_as_one_set(
    with_schedules: Shell, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = with_schedules
    assert shell.tells("schedules", "diff", "--app", app)["added"] == ["in-code"]

    shell.says("schedules", "apply", "--app", app)

    (record,) = [r for r in shell.tells("schedules", "list") if r["source"] == "code"]
    assert record["name"] == "in-code"
    for verb in ("diff", "apply"):
        assert "--app or PILLARS_APP" in shell.fails("schedules", verb)
    monkeypatch.setenv("PILLARS_APP", app)
    assert shell.says("schedules", "diff") == "nothing would change\n"
