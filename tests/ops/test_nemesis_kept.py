"""A run that was kept is judged again as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ops.chaos import kept
from ops.chaos.arena import NemesisError, Plan
from ops.chaos.report import not_done
from tests.ops.test_nemesis_invariants import GOOD, LOST

if TYPE_CHECKING:
    from pathlib import Path

PLAN = Plan(
    seconds=20.0,
    seed=7,
    faults=("cut", "promote-async"),
    crons=3,
    workers=2,
    schedules=80,
    lease=5.0,
    lookahead=5.0,
)


def test_evidence_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    evidence = replace(GOOD, deeds=[*GOOD.deeds, LOST], exits={"cron-1.1": -9})
    kept.keep(tmp_path, "here", PLAN, evidence)

    assert kept.read(tmp_path) == ("here", replace(PLAN, keep=tmp_path), evidence)


def test_faults_whose_turn_never_came_are_named() -> None:
    assert not_done(PLAN, replace(GOOD, deeds=[LOST])) == ["cut"]


@pytest.mark.parametrize(
    "text", ["", "{}", '{"where": "", "plan": {"seconds": 20}, "evidence": {}}']
)
def test_what_is_no_evidence_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / kept.FILE).write_text(text)

    with pytest.raises(NemesisError, match="of another version"):
        kept.read(tmp_path)


def test_where_nothing_was_kept_the_option_that_keeps_is_named(tmp_path: Path) -> None:
    with pytest.raises(NemesisError, match="--keep writes it"):
        kept.read(tmp_path)
