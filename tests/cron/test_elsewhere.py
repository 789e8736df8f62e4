"""Processes that do one thing for another."""

from __future__ import annotations

import os

import pytest

from pillars.cron.elsewhere import Elsewhere, call_elsewhere


def test_each_call_is_answered_in_order_by_one_other_process() -> None:
    with Elsewhere(divmod, [(7, 2), (9, 4)]).ask() as elsewhere:
        assert [elsewhere.answer(), elsewhere.answer()] == [(3, 1), (2, 1)]
    with Elsewhere(os.getpid, [()]).ask() as elsewhere:
        assert elsewhere.answer() != os.getpid()


def test_a_call_that_raises_ends_the_process_and_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        Elsewhere(divmod, [(1, 0)]).ask() as elsewhere,
        pytest.raises(RuntimeError, match="ended with 1"),
    ):
        elsewhere.answer()

    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_process_does_not_outlive_its_block() -> None:
    with Elsewhere(os.getpid, [(), ()]).ask() as elsewhere:
        pid = elsewhere.answer()

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_the_event_loop_waits_for_an_answer_like_for_any_other() -> None:
    assert await call_elsewhere(divmod, 7, 2) == (3, 1)
