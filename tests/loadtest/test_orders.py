from __future__ import annotations

from typing import Any

import pytest

from pillars.ground.errors import UsageError
from pillars.loadtest.mix import Mix
from pillars.loadtest.orders import Deed, Order, Step, check_ticks, order_of


def order(**changed: Any) -> Order:
    given = {
        "schedules": 1_000,
        "mix": Mix.REALISTIC,
        "replicas": 2,
        "workers": 1,
        "seconds": 60,
        "plan": "",
        "lookahead": 5.0,
        "lease": 5.0,
        "concurrency": 20,
        "seed": 1,
    }
    return order_of(**{**given, **changed})


def refusal(**changed: Any) -> list[str]:
    with pytest.raises(UsageError) as refused:
        order(**changed)
    return str(refused.value).splitlines()


def test_a_plan_is_read_in_the_order_of_its_times() -> None:
    assert order(plan="40s:leave, 500ms:kill,1m:join", seconds=90, replicas=3).plan == (
        Step(0.5, Deed.KILL),
        Step(40.0, Deed.LEAVE),
        Step(60.0, Deed.JOIN),
    )


def test_all_faults_are_told_at_once_with_what_would_be_right() -> None:
    assert refusal(schedules=0, plan="10s,3x:kill,5s:jion,70s:join", replicas=65) == [
        "--schedules 0: give a number from 1 to 2,000,000",
        "--replicas 65: give a number from 1 to 64",
        "--plan '10s': write a time and what is done then, as in 30s:kill",
        "--plan '3x:kill': not a duration: write 5, 500ms, 15m, 1h30m or 7d",
        "--plan '5s:jion': 'jion' is none of join, kill, leave, did you mean 'join'?",
        "--plan '70s:join': the run is over after 60 s, give more --seconds",
        "--plan: more than 64 crons",
    ]


def test_a_plan_that_leaves_no_cron_is_refused() -> None:
    assert refusal(plan="10s:kill,20s:leave,30s:join") == [
        "--plan '20s:leave': no cron would be left, give more --replicas or let one join before"
    ]


def test_a_herd_needs_a_full_minute() -> None:
    assert refusal(mix=Mix.HERD, seconds=59) == [
        "--seconds 59: a herd comes at the full minute, give 60 or more"
    ]


def test_more_ticks_than_can_be_kept_are_refused_with_how_many_could() -> None:
    with pytest.raises(UsageError) as refused:
        check_ticks(10_000.0, 3_000)

    assert str(refused.value) == (
        "30,000,000 ticks are too many to keep and count: at 10,000 a second give "
        "--seconds 2,000, or fewer --schedules"
    )
