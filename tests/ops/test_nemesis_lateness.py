"""Each tick counts for what was done at its time, and for nothing else."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from ops.chaos.__main__ import exit_code
from ops.chaos.evidence import Deed
from ops.chaos.faults import FAULTS, LANES
from ops.chaos.field import deck
from ops.chaos.invariants.verdict import Verdict
from ops.chaos.lateness import SEVERAL, SEVERAL_OUTAGES, STEADY, figures, ticks_of
from ops.chaos.load import Load
from tests.ops.test_nemesis_invariants import EPOCH, GOOD, job

if TYPE_CHECKING:
    from ops.chaos.evidence import Evidence
    from ops.chaos.lateness import Figures

LAST = 60
KILL = Deed("kill-cron", EPOCH + 10, EPOCH + 15, lane="processes")
CUT = Deed("cut", EPOCH + 18, EPOCH + 25, lane="links")
DOWN = Deed("db-down", EPOCH + 40, EPOCH + 45, lane="database")


def ran(*deeds: Deed, late: float = 0.0) -> Evidence:
    """A run of one tick a second, each written ahead unless `late` seconds after its time."""
    jobs = [
        job(tick, tick, schedule="one", fire_at=EPOCH + tick, created_at=EPOCH + tick + late)
        for tick in range(1, LAST + 1)
    ]
    return replace(
        GOOD,
        loads=[Load("one", 1)],
        created={"one": EPOCH + 0.5},
        jobs=jobs,
        runs=[],
        deeds=deeds,
        until=EPOCH + LAST + 0.5,
    )


def by_fault(evidence: Evidence) -> dict[str, Figures]:
    return {each.fault: each for each in figures(evidence)}


def test_every_tick_counts_once() -> None:
    evidence = ran(KILL, CUT, DOWN)

    assert sum(each.ticks for each in figures(evidence)) == len(ticks_of(evidence)) == LAST


def test_windows_of_one_lane_do_not_overlap() -> None:
    found = by_fault(ran(replace(KILL, lane=""), replace(CUT, lane=""), replace(DOWN, lane="")))

    # From a second before, until a lease after, or until the next one's begin.
    assert {fault: each.ticks for fault, each in found.items()} == {
        STEADY: LAST - 8 - 13 - 11,
        "kill-cron": 8,
        "cut": 13,
        "db-down": 11,
    }


def test_where_lanes_overlap_ticks_count_for_both_together() -> None:
    found = by_fault(ran(KILL, CUT, DOWN))

    assert found[SEVERAL].ticks == 3
    assert found["kill-cron"].ticks == 8
    assert found["cut"].ticks == 10


def test_several_with_an_outage_among_them_are_told_apart() -> None:
    found = by_fault(ran(KILL, replace(DOWN, at=EPOCH + 12, until=EPOCH + 14)))

    assert found[SEVERAL_OUTAGES].ticks == 8
    assert found["kill-cron"].ticks == 3
    assert SEVERAL not in found


@pytest.mark.parametrize(("late", "reached"), [(0.0, True), (0.5, False)])
def test_a_late_tick_misses_the_goal_of_its_fault_alone(late: float, reached: bool) -> None:
    found = by_fault(ran(KILL, late=late))

    assert found["kill-cron"].reached is reached
    assert found["kill-cron"].late == (0 if reached else 11)
    assert found[STEADY].reached


def test_after_an_outage_what_was_due_in_it_is_timed_from_its_end() -> None:
    (down,) = [each for each in figures(ran(DOWN, late=6.0)) if each.fault == "db-down"]

    # The last tick before the end, 44 s, was written at 50 s.
    assert down.returned == pytest.approx(5.0)
    assert not down.reached


def test_what_was_due_in_an_outage_is_timed_also_where_others_overlap_it() -> None:
    found = by_fault(ran(DOWN, replace(KILL, at=EPOCH + 38, until=EPOCH + 46), late=6.0))

    assert found["db-down"].ticks == 0
    assert found["db-down"].returned == pytest.approx(5.0)
    assert not found["db-down"].goal


def test_each_fault_has_a_lane_and_is_done_as_often_as_the_others() -> None:
    assert set(LANES) == set(FAULTS)
    assert set(LANES.values()) == {"processes", "database", "links"}
    cards = [card for card, _ in islice(deck(random.Random(1), list("abc"), (0, 1)), 9)]  # noqa: S311
    assert sorted(cards) == sorted("abc" * 3)
    assert list(islice(deck(random.Random(1), [], (0, 1)), 1)) == []  # noqa: S311


@pytest.mark.parametrize(("late", "code"), [(0.0, 0), (0.5, 1)])
def test_a_goal_that_is_missed_fails_a_run_that_is_held_to_its_goals(
    late: float, code: int
) -> None:
    assert exit_code([], figures(ran(KILL, late=late))) == code


@pytest.mark.parametrize(("violations", "code"), [([], 0), (["it broke"], 1)])
def test_an_invariant_that_is_broken_fails_every_run(violations: list[str], code: int) -> None:
    assert exit_code([Verdict("I1", "it holds", 1, violations)], []) == code
