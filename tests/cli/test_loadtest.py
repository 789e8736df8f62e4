"""What `pillars loadtest` refuses before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Shell


def test_a_bad_plan_is_refused_with_all_its_faults(shell: Shell) -> None:
    code, out, err = shell.run("loadtest", "--plan", "10s:kil,x:join")

    assert (code, out) == (2, "")
    assert err == (
        "pillars: --plan '10s:kil': 'kil' is none of join, kill, leave, did you mean 'kill'?\n"
        "pillars: --plan 'x:join': not a duration: write 5, 500ms, 15m, 1h30m or 7d\n"
    )


def test_more_ticks_than_can_be_counted_are_refused(shell: Shell) -> None:
    words = ("loadtest", "--mix", "each-second", "--schedules", "1000000", "--seconds", "60")

    assert shell.refuses(*words) == (
        "60,000,000 ticks are too many to keep and count: at 1,000,000 a second give "
        "--seconds 20, or fewer --schedules"
    )


def test_in_place_needs_a_place(shell: Shell) -> None:
    assert shell.refuses("loadtest", "--in-place") == (
        "--in-place: name the database with --database-url"
    )


def test_a_report_that_could_not_be_written_is_refused_at_once(shell: Shell) -> None:
    assert "no/run.html': there is no such directory" in shell.refuses(
        "loadtest", "--report", "no/run.html"
    )
    assert "is a directory: name a file in it" in shell.refuses("loadtest", "--json", ".")
    assert "does not end with .html" in shell.refuses("loadtest", "--report", "run.png")


def test_the_help_shows_an_example(shell: Shell) -> None:
    assert 'pillars loadtest --mix each-second --plan "20s:kill,30s:join,40s:leave"' in shell.says(
        "loadtest", "--help"
    )
