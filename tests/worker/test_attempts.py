from __future__ import annotations

import asyncio
import json
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pillars import Discard, PermanentError, RetryPolicy, Snooze, current_job
from pillars.queue.attempt import Ended, Job
from pillars.queue.states import JobId, JobState
from pillars.worker.attempts import Attempts
from pillars.worker.failures import LONGEST_ERROR
from pillars.worker.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def attempts(registry: Registry) -> Iterator[Attempts]:
    attempts = Attempts(registry, 2, lambda job: job.refusal)
    yield attempts
    attempts.close()


def job(type_: str = "t", args: Any = None, **given: Any) -> Job:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    fields = {
        "id": JobId(7),
        "type": type_,
        "queue": "default",
        "args": {} if args is None else args,
        "attempt": 1,
        "failures": 0,
        "priority": 0,
        "max_attempts": None,
        "timeout": None,
        "retry": None,
        "schedule": "daily",
        "fire_at": now,
        "run_at": now,
        "start_delay": 0.0,
    }
    return Job(**{**fields, **given})


async def attempt(attempts: Attempts, job: Job) -> Ended:
    ended, thread = await attempts.run(job)
    assert thread is None
    return ended


def raiser(error: BaseException) -> Callable[..., Any]:
    async def handler() -> NoReturn:
        raise error

    return handler


async def test_a_handler_that_returns_has_succeeded(registry: Registry, attempts: Attempts) -> None:
    async def handler(a: int, b: str) -> None:
        assert (a, b) == (1, "x")

    registry.register("t", handler)

    ended = await attempt(attempts, job(args={"a": 1, "b": "x"}))

    assert ended == Ended(JobId(7), 1, JobState.SUCCEEDED)


async def test_a_plain_function_runs_in_a_thread_and_knows_its_job(
    registry: Registry,
    attempts: Attempts,
) -> None:
    seen: list[object] = []

    def handler() -> None:
        context = current_job()
        seen.extend((context.id, context.schedule, threading.current_thread().name))

    registry.register("t", handler)

    await attempt(attempts, job())

    assert seen == [7, "daily", "pillars-job-1"]


async def test_a_failure_is_tried_again_after_a_pause_shortened_by_a_quarter_at_most(
    registry: Registry,
    attempts: Attempts,
) -> None:
    registry.register("t", raiser(ValueError("boom")), policy=RetryPolicy(base=100.0))

    ended = await attempt(attempts, job(failures=1, attempt=2))

    assert ended.state is JobState.FAILED
    assert ended.retry_in is not None
    assert 150.0 <= ended.retry_in <= 200.0


async def test_the_last_failure_makes_the_job_dead(registry: Registry, attempts: Attempts) -> None:
    registry.register("t", raiser(ValueError("boom")), policy=RetryPolicy(max_attempts=3))

    ended = await attempt(attempts, job(failures=2, attempt=3))

    assert (ended.state, ended.retry_in) == (JobState.DEAD, None)


async def test_the_jobs_own_policy_goes_before_its_types(
    registry: Registry,
    attempts: Attempts,
) -> None:
    registry.register("t", raiser(ValueError("boom")), policy=RetryPolicy(max_attempts=9))

    by_retry = await attempt(attempts, job(retry='{"max_attempts": 1}'))
    by_number = await attempt(attempts, job(retry='{"max_attempts": 1}', max_attempts=2))

    assert (by_retry.state, by_number.state) == (JobState.DEAD, JobState.FAILED)


@pytest.mark.parametrize(
    "retry",
    [
        "[]",
        '{"base": "soon"}',
        '{"backoff": "never"}',
        '{"base": null}',
        '{"max_attempts": 1' + "0" * 5000 + "}",
        "[" * 1200 + "]" * 1200,
    ],
    ids=lambda text: text[:25],
)
async def test_a_policy_nobody_can_read_does_not_matter(
    registry: Registry,
    attempts: Attempts,
    retry: str,
) -> None:
    registry.register("t", raiser(ValueError("boom")), policy=ONCE)

    assert (await attempt(attempts, job(retry=retry))).state is JobState.DEAD


@pytest.mark.parametrize("base", [float("nan"), float("inf"), -5.0, 1e300])
async def test_every_pause_can_be_added_to_an_instant(
    registry: Registry,
    attempts: Attempts,
    base: float,
) -> None:
    registry.register("t", raiser(ValueError("boom")))

    ended = await attempt(attempts, job(retry=json.dumps({"base": base, "max": 1e300})))

    assert ended.retry_in is not None
    assert 0.0 <= ended.retry_in <= 366 * 86_400.0


@pytest.mark.parametrize(
    "error",
    [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError(), BaseException("odd")],
)
async def test_whatever_a_handler_raises_is_its_own_failure(
    registry: Registry,
    attempts: Attempts,
    error: BaseException,
) -> None:
    registry.register("t", raiser(error))

    assert (await attempt(attempts, job())).state is JobState.FAILED


async def test_sys_exit_in_a_thread_is_a_failure_too(
    registry: Registry,
    attempts: Attempts,
) -> None:
    def handler() -> None:
        sys.exit(3)

    registry.register("t", handler)

    ended = await attempt(attempts, job())

    assert ended.error is not None
    assert ended.error.startswith("SystemExit: 3\n")


async def test_an_unknown_type_is_named_with_its_neighbours_and_kept(
    registry: Registry,
    attempts: Attempts,
) -> None:
    registry.register("mail.welcome", raiser(ValueError()))

    ended = await attempt(attempts, job("mail.wellcome", max_attempts=1, failures=4))

    expected = (
        "job type 'mail.wellcome' is unknown to this worker, did you mean 'mail.welcome'? "
        "(known: mail.welcome): start workers with the application that has it, or cancel the job"
    )
    assert (ended.state, ended.error, ended.started) == (JobState.AVAILABLE, expected, False)
    assert 10 <= (ended.retry_in or 0) <= 60


async def test_a_job_of_an_unknown_type_that_is_not_wanted_ends(attempts: Attempts) -> None:
    ended = await attempt(attempts, job("not.yet", refusal="expired"))

    assert (ended.state, ended.error) == (JobState.CANCELLED, "expired")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, "missing a required argument: 'to'"),
        ({"to": "a", "cc": "b"}, "got an unexpected keyword argument 'cc'"),
    ],
)
async def test_args_that_do_not_fit_are_told_in_a_sentence(
    registry: Registry,
    attempts: Attempts,
    args: dict[str, str],
    expected: str,
) -> None:
    async def handler(to: str) -> None: ...

    registry.register("t", handler)

    ended = await attempt(attempts, job(args=args))

    assert ended.state is JobState.FAILED
    assert ended.error == (
        f"the args of job type 't' do not fit: {expected}; it takes (to: 'str') -> 'None'"
    )


async def test_args_that_are_no_object_are_told_in_a_sentence(
    registry: Registry,
    attempts: Attempts,
) -> None:
    async def handler() -> None: ...

    registry.register("t", handler)

    ended = await attempt(attempts, job(args=[1]))

    assert ended.error == "the args of job type 't' are not a JSON object"


async def test_a_type_error_of_the_handlers_own_is_not_blamed_on_its_args(
    registry: Registry,
    attempts: Attempts,
) -> None:
    registry.register("t", raiser(TypeError("inner")))

    ended = await attempt(attempts, job())

    assert ended.error is not None
    assert ended.error.startswith("TypeError: inner\nTraceback")


async def test_an_async_timeout_cancels_the_handler(registry: Registry, attempts: Attempts) -> None:
    never = asyncio.Event()
    registry.register("t", never.wait, timeout=0.01)

    ended = await attempt(attempts, job())

    assert (ended.state, ended.error) == (JobState.FAILED, "timed out after 0.01 s")


async def test_the_jobs_own_timeout_goes_before_its_types(
    registry: Registry,
    attempts: Attempts,
) -> None:
    never = asyncio.Event()
    registry.register("t", never.wait, timeout=1000)

    ended = await attempt(attempts, job(timeout=0.01))

    assert ended.error == "timed out after 0.01 s"


async def test_a_timeout_error_of_the_handlers_own_is_not_taken_for_ours(
    registry: Registry,
    attempts: Attempts,
) -> None:
    registry.register("t", raiser(TimeoutError("upstream")), timeout=1000)

    ended = await attempt(attempts, job())

    assert ended.error is not None
    assert ended.error.startswith("TimeoutError: upstream\n")


async def test_a_thread_that_times_out_is_told_and_handed_over(
    registry: Registry,
    attempts: Attempts,
) -> None:
    ended_by: list[bool] = []

    def handler() -> None:
        ended_by.append(current_job().cancelled.wait(30))

    registry.register("t", handler, timeout=0.01)

    ended, thread = await attempts.run(job())

    assert ended.state is JobState.FAILED
    assert ended.error == ("timed out after 0.01 s; its thread goes on until the function returns")
    assert thread is not None
    assert await thread is None
    assert ended_by == [True]


async def test_discard_ends_a_job_as_cancelled_and_a_permanent_error_as_dead(
    registry: Registry,
    attempts: Attempts,
) -> None:
    registry.register("discard", raiser(Discard("user is gone")))
    registry.register("permanent", raiser(PermanentError("no such account")))

    assert await attempt(attempts, job("discard")) == Ended(
        JobId(7), 1, JobState.CANCELLED, "user is gone"
    )
    assert await attempt(attempts, job("permanent")) == Ended(
        JobId(7), 1, JobState.DEAD, "no such account"
    )


async def test_a_plain_function_that_returns_a_coroutine_is_told_so(
    registry: Registry,
    attempts: Attempts,
) -> None:
    async def inner() -> None: ...

    registry.register("t", lambda: inner())  # noqa: PLW0108 - a decorator that forgot to await

    ended = await attempt(attempts, job())

    assert ended.state is JobState.DEAD
    assert ended.error is not None
    assert "returned a coroutine" in ended.error


async def test_an_error_is_bounded_and_can_be_stored_whatever_it_holds(
    registry: Registry,
    attempts: Attempts,
) -> None:
    registry.register("t", raiser(ValueError("\x00\ud800" + "x" * 100_000)))

    ended = await attempt(attempts, job())

    assert ended.error is not None
    assert ended.error.startswith("ValueError: \\x00\\ud800xxx")
    assert len(ended.error) <= LONGEST_ERROR + len("\\x00\\ud800")


async def test_an_error_whose_text_cannot_be_made_is_still_a_failure(
    registry: Registry,
    attempts: Attempts,
) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    registry.register("t", raiser(MuteError()))

    ended = await attempt(attempts, job())

    assert ended.error is not None
    assert "MuteError: <exception str() failed>" in ended.error.partition("\n")[0]


async def test_a_snooze_is_an_end_without_failure(registry: Registry, attempts: Attempts) -> None:
    registry.register("t", raiser(Snooze(90, "the shop is closed")), policy=ONCE)

    late = job(start_delay=3.5)

    ended = await attempt(attempts, late)

    claimed = late.run_at + timedelta(seconds=3.5)
    assert ended == Ended(
        JobId(7), 1, JobState.AVAILABLE, "the shop is closed", 90, started_at=claimed
    )


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e9])
def test_a_snooze_that_is_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="out of range: 0 to 31,622,400 s"):
        Snooze(seconds)


async def test_a_job_whose_args_cannot_be_read_is_dead_and_says_why(
    registry: Registry, attempts: Attempts
) -> None:
    registry.register("t", raiser(ValueError("boom")))

    ended = await attempt(attempts, job(refusal="its args cannot be read", unreadable=True))

    assert (ended.state, ended.error) == (JobState.DEAD, "its args cannot be read")
