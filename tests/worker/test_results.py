"""What handlers return, stored with their jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pillars import NewJob
from pillars.ground.events import JobFinished
from pillars.queue.desk import show_job
from pillars.queue.states import JobId
from pillars.worker.results import LONGEST_RESULT, Result, encode_result

if TYPE_CHECKING:
    from tests.worker.conftest import Bench


async def test_results_are_stored_where_that_was_asked_for(bench: Bench) -> None:
    @bench.app.job("async", store_result=True, timeout=30)
    async def add(a: int, b: int) -> dict[str, int]:
        return {"sum": a + b}

    @bench.app.job("plain", store_result=True)
    def join(a: str, b: str) -> str:
        return a + b

    @bench.app.job("silent")
    async def silent() -> str:
        return "nobody asked"

    await bench.app.enqueue_many(
        [
            NewJob("async", {"a": 1, "b": 2}),
            NewJob("plain", {"a": "zwölf", "b": "\\u0000"}),
            NewJob("silent"),
        ],
    )
    async with bench.working():
        await bench.events.until(JobFinished, count=3)

    assert bench.jobs("state, result, error") == [
        ("succeeded", {"sum": 3}, None),
        ("succeeded", "zwölf\\u0000", None),
        ("succeeded", None, None),
    ]
    assert (await show_job(bench.database, JobId(1))).result == {"sum": 3}


async def test_a_result_that_cannot_be_stored_does_not_make_the_job_fail(bench: Bench) -> None:
    @bench.app.job("set", store_result=True)
    async def give_set() -> set[int]:
        return {1}

    await bench.app.enqueue("set")
    async with bench.working():
        (end,) = await bench.events.until(JobFinished)

    told = "the result was not stored: it is not JSON: Object of type set is not JSON serializable"
    assert (end.outcome, end.error) == ("succeeded", told)
    assert bench.jobs("state, result, error") == [("succeeded", None, told)]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (float("nan"), "it is not JSON: Out of range float values are not JSON compliant"),
        ("\ud800", "it is not JSON: 'utf-8' codec can't encode"),
        ("a\0b", "it holds a NUL character, which PostgreSQL cannot store"),
        ("ä" * LONGEST_RESULT, "it takes 131,074 bytes as JSON, the limit is 65,536"),
    ],
)
def test_what_postgres_would_refuse_is_not_sent(value: Any, why: str) -> None:
    result = encode_result(value)

    assert result.text is None
    assert (result.error or "").startswith(f"the result was not stored: {why}")


def test_none_is_no_result() -> None:
    assert encode_result(None) == Result()


def test_what_contains_itself_is_not_stored() -> None:
    endless: list[Any] = []
    endless.append(endless)

    assert encode_result(endless).text is None
