from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Shell


def rows(text: str) -> list[list[str]]:
    return [line.split(maxsplit=6) for line in text.splitlines()[1:]]


def test_queues_are_listed_with_depth_and_limits(here: Shell) -> None:
    here.says("jobs", "enqueue", "log", "--queue", "mail")
    here.says("queues", "limit", "mail", "--concurrency", "5", "--rate", "600/m", "--burst", "3")
    here.says("queues", "pause", "reports")

    assert [(row[0], row[1], row[6]) for row in rows(here.says("queues", "list"))] == [
        ("mail", "1", "5 at a time, 10/s"),
        ("reports", "0", "paused"),
    ]
    mail, reports = here.tells("queues", "list")
    assert {key: mail[key] for key in ("concurrency", "rate", "burst", "paused_at")} == {
        "concurrency": 5,
        "rate": 10.0,
        "burst": 3,
        "paused_at": None,
    }
    assert (reports["queue"], reports["available"], reports["rate"]) == ("reports", 0, None)
    assert reports["paused_at"].endswith("Z")


def test_status_shows_which_queues_are_paused_and_limited(here: Shell) -> None:
    here.says("queues", "limit", "mail", "--rate", "90/h")
    here.says("queues", "pause", "mail")

    assert here.says("status").splitlines()[-1].split(maxsplit=6)[6] == "paused, 90/h"
    assert here.tells("status")["queues"][0]["rate"] == pytest.approx(90 / 3600)


def test_each_verb_says_what_holds_now(here: Shell) -> None:
    assert here.says("queues", "limit", "mail", "--rate", "10/s") == "queue 'mail': 10/s\n"
    assert here.says("queues", "pause", "mail") == (
        "queue 'mail' is paused: jobs that run go on, no other is started\n"
    )
    assert here.says("queues", "limit", "mail", "--none") == "queue 'mail': paused\n"
    assert here.says("queues", "resume", "mail") == "queue 'mail' goes on\n"
    assert here.says("queues", "limit", "mail", "--none") == "queue 'mail': no limits\n"
    assert here.says("queues", "list") == "no queue holds jobs or has limits\n"


def test_what_is_not_named_is_not_limited_any_more(here: Shell) -> None:
    here.says("queues", "limit", "mail", "--concurrency", "5", "--rate", "10/s")
    here.says("queues", "limit", "mail", "--concurrency", "6")

    (queue,) = here.tells("queues", "list")
    assert (queue["concurrency"], queue["rate"]) == (6, None)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ((), "give --concurrency, --rate or both, or --none to lift the limits"),
        (("--none", "--rate", "1/s"), "give --concurrency, --rate or both, or --none"),
        (("--rate", "10"), "--rate 10: not a rate: write 10/s, 100/m or 5000/h"),
        (("--rate", "10/d"), "--rate 10/d: not a rate"),
        (("--rate", "0/s"), "rate 0.0 is out of range"),
        (("--burst", "3"), "burst needs a rate"),
        (("--concurrency", "0"), "pillars queues limit: error: argument --concurrency"),
    ],
)
def test_limits_that_make_no_sense_are_refused(
    here: Shell, flags: tuple[str, ...], sentence: str
) -> None:
    assert here.refuses("queues", "limit", "mail", *flags).startswith(sentence)


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_what_is_no_name_of_a_queue_is_refused(here: Shell, verb: str) -> None:
    assert here.refuses("queues", verb, "no good").startswith("queue 'no good' is not a name")
