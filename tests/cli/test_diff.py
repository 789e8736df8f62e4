from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    import psycopg

    from tests.cli.conftest import Shell

# Both hours are still to come today, or both are over: else the fire of one of them has no pair.
OLD, NEW = (
    ("0 6", "0 7") if datetime.now(ZoneInfo("Europe/Berlin")).hour >= 12 else ("0 18", "0 19")
)
DAILY = f"""\
schedules:
  - {{name: daily, cron: "{OLD} * * *", timezone: Europe/Berlin, job: log, args: {{message: a}}}}
"""


def change(shell: Shell, name: str, *words: str) -> dict[str, Any]:
    told = shell.tells("schedules", "diff", *words)
    (found,) = [each for each in told["schedules"] if each["name"] == name]
    return dict(found)


def with_daily(here: Shell, new: str) -> Shell:
    here.write(DAILY)
    here.says("schedules", "apply")
    here.write(new)
    return here


def test_another_hour_moves_each_fire(here: Shell) -> None:
    with_daily(here, DAILY.replace(OLD, NEW))

    told = here.says("schedules", "diff").splitlines()

    assert told[:2] == ["~ daily  a.yaml:2", f"    cron: {OLD} * * * -> {NEW} * * *"]
    assert re.match(r"    7 fires move 1h later in 7 days: \w{3} .* and 4 more", told[2])


def test_a_change_of_args_alone_tells_its_keys_and_no_fires(here: Shell) -> None:
    with_daily(here, DAILY.replace("message: a", "message: b"))

    assert here.says("schedules", "diff") == "~ daily  a.yaml:2\n    args.message: a -> b\n"
    assert change(here, "daily")["fires"] is None


def test_a_schedule_that_is_switched_off_has_fires_that_vanish(here: Shell) -> None:
    with_daily(here, DAILY.replace("job: log", "job: log, enabled: false"))

    told = change(here, "daily")

    assert told["keys"] == {"enabled": {"old": None, "new": False}}
    assert told["fires"]["vanish"]["count"] == 7


def test_a_paused_schedule_fires_neither_before_nor_after(here: Shell) -> None:
    with_daily(here, DAILY.replace(OLD, NEW))
    here.says("schedules", "pause", "daily")

    told = change(here, "daily")

    assert told["paused"]
    assert told["fires"] is None
    assert "is paused: fires at no time" in here.says("schedules", "diff")


def test_the_days_looked_at_can_be_chosen(here: Shell) -> None:
    with_daily(here, DAILY.replace(OLD, NEW))

    assert change(here, "daily", "--days", "30")["fires"]["move"]["count"] == 30


def test_the_days_on_which_clocks_change_are_flagged(here: Shell) -> None:
    with_daily(here, DAILY.replace(OLD, "30 2"))

    told = change(here, "daily", "--days", "366")

    assert {each["effect"] for each in told["clock_changes"]} == {"shifted", "first"}
    assert "comes twice: fires at the first" in here.says("schedules", "diff", "--days", "366")


def test_a_schedule_that_fires_only_later_tells_its_first_fire(here: Shell) -> None:
    far = f"{datetime.now(UTC) + timedelta(days=40):%Y-%m-%dT%H:%M:%S}"
    here.write(f"schedules:\n  - {{name: once, at: {far}, job: noop}}\n")

    assert f"no fire in 7 days; the first is {far[:10]}" in re.sub(
        r"is \w{3} ", "is ", here.says("schedules", "diff")
    )


def test_each_second_schedules_are_looked_at_for_a_bounded_time(here: Shell) -> None:
    here.write("schedules:\n  - {name: pulse, every: 1s, job: noop}\n")

    told = change(here, "pulse", "--days", "366")

    assert told["fires"]["appear"]["count"] == 10_080
    assert len(told["fires"]["appear"]["first"]) == 3
    assert "it fires often: looked at until" in here.says("schedules", "diff")


def test_a_spread_of_h_that_changed_is_told_as_a_change_of_timing(
    here: Shell, sql: psycopg.Connection[Any]
) -> None:
    here.write('schedules:\n  - {name: h, cron: "H 6 * * *", job: noop}\n')
    here.says("schedules", "apply")
    sql.execute(
        "UPDATE pillars.schedules SET fingerprint = 'x', timing = '{\"cron\":\"0 6 * * *\"}'"
    )

    assert list(change(here, "h")["keys"]) == ["timing"]


def test_of_very_many_schedules_only_some_are_told_in_full(here: Shell) -> None:
    rows = "".join(f"  - {{name: s{n}, every: 1h, job: noop}}\n" for n in range(130))
    here.write(f"schedules:\n{rows}")

    told = here.tells("schedules", "diff")

    assert (len(told["added"]), len(told["schedules"]), told["left_out"]) == (130, 100, 30)
    assert here.says("schedules", "diff").endswith("and 30 more; --json names them all\n")
