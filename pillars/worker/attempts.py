"""One attempt: call the handler, and turn whatever happens into an `Ended`.

Nothing a handler does may end the worker: every exception, SystemExit among them, is a failed
attempt. The policy is the job's own `retry`, else its type's; the job's own `max_attempts` goes
above both. A job whose type has no handler here is put back for workers that know it.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import random
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from pillars.queue.attempt import Ended
from pillars.queue.retry import RetryPolicy, retry_in
from pillars.queue.states import JobState
from pillars.worker.context import (
    LONGEST_PAUSE,
    Discard,
    JobContext,
    PermanentError,
    Snooze,
    enter_job,
)
from pillars.worker.failures import error_text, misfit, storable
from pillars.worker.results import Result, encode_result
from pillars.worker.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pillars.queue.attempt import Job
    from pillars.worker.registry import Handler, Registry

    # What became of a call: an exception, or a result where there is one to be stored.
    Return = BaseException | Result | None
    Thread = asyncio.Future[Return]

    # How an attempt ended, and its thread if that runs on all the same.
    Attempt: TypeAlias = tuple[Ended, Thread | None]
    Run: TypeAlias = Callable[[Job], Awaitable[Attempt]]

# How long a thread that was told to stop may take to come back with its result.
_LAST_WORD = 1.0
# Until a job of an unknown type is offered again: seconds, at least and at most.
_UNKNOWN_PAUSE = 10.0, 60.0


class Tracing(Protocol):
    """Follows attempts; where that leads is no concern of the worker's."""

    def follow(self, run: Run) -> Run:
        """Return a `run` that does the same and is followed."""

    def raised(self, error: BaseException) -> None:
        """Take note of what a handler raised; called inside the attempt."""


class Attempts:
    """Makes attempts at jobs with the handlers of a registry."""

    def __init__(
        self,
        registry: Registry,
        concurrency: int,
        refusal: Callable[[Job], str | None],
        tracing: Tracing | None = None,
    ) -> None:
        """Find handlers in `registry`; run at most `concurrency` plain functions at once.

        `refusal` tells why a job must not start, or not go on, and None while it may.
        """
        self._tracing = tracing
        self._registry = registry
        self._refusal = refusal
        self._threads: Threads[Return] = Threads(concurrency, "pillars-job")
        # Set before running attempts are cut short: a cancellation then comes from the worker.
        self.cutting = False

    async def run(self, job: Job) -> Attempt:
        """Make one attempt; the thread is one that runs on although the attempt has ended.

        To stop an attempt whose job has a `refusal`, cancel the task that makes it. It ends as
        cancelled, unless its handler returns all the same.

        Raises:
            asyncio.CancelledError: the attempt was cut short while `cutting`; it has no result.
        """
        handler = self._registry.get(job.type)
        reason = self._refusal(job)
        if handler is None or reason is not None:
            return self._refused(job, reason), None
        context = JobContext(job)
        enter_job(context)
        timeout = handler.timeout if job.timeout is None else job.timeout
        try:
            if not handler.is_async:
                return await self._in_thread(job, handler, context, timeout)
            if timeout is None:
                value = await handler.function(**job.args)
            else:
                in_time, value = await _within(timeout, handler.function, job.args)
                if not in_time:
                    context.cancel()
                    return self._overdue(job, handler, f"timed out after {timeout:g} s"), None
        except asyncio.CancelledError as error:
            context.cancel()
            if self.cutting:
                raise
            return self._raised(job, handler, error), None
        except GeneratorExit:
            raise  # the loop was closed under us
        except BaseException as error:  # a handler's SystemExit is its failure alone
            if self.cutting and _is_cancelled():
                # What it makes of being cut short is no failure of the job.
                raise asyncio.CancelledError from error
            return self._raised(job, handler, error), None
        return _succeeded(job, encode_result(value) if handler.store_result else None), None

    def close(self) -> None:
        """Let idle threads go."""
        self._threads.close()

    async def _in_thread(
        self,
        job: Job,
        handler: Handler,
        context: JobContext,
        timeout: float | None,  # noqa: ASYNC109 - a thread cannot be cancelled, so it is waited for
    ) -> Attempt:
        # The copy carries the job context along, and keeps what the function sets to itself.
        call = partial(copy_context().run, _call, handler, job.args)
        thread = self._threads.submit(call)
        try:
            await asyncio.wait((thread,), timeout=timeout)
        except asyncio.CancelledError:
            context.cancel()
            await asyncio.wait((thread,), timeout=_LAST_WORD)
            if self.cutting and (not thread.done() or isinstance(thread.result(), BaseException)):
                raise
        if not thread.done():
            context.cancel()
            error = (
                f"timed out after {timeout or 0:g} s; its thread goes on until the function returns"
            )
            return self._overdue(job, handler, error), thread
        returned = thread.result()
        if isinstance(returned, BaseException):
            return self._raised(job, handler, returned), None
        return _succeeded(job, returned), None

    def _refused(self, job: Job, reason: str | None) -> Ended:
        if job.unreadable:
            return Ended(job.id, job.attempt, JobState.DEAD, reason)
        if reason is not None:
            return _cancelled(job, reason)
        # No attempt, and no failure: in a rolling deploy a newer worker knows the type.
        pause = random.uniform(*_UNKNOWN_PAUSE)  # noqa: S311 - jitter is no secret
        text = storable(self._registry.unknown(job.type))
        return _put_back(job, text, pause, started=False)

    def _overdue(self, job: Job, handler: Handler, error: str) -> Ended:
        if (reason := self._refusal(job)) is not None:
            return _cancelled(job, reason)
        return _failed(job, handler.policy, error)

    def _raised(self, job: Job, handler: Handler, error: BaseException) -> Ended:
        # Whatever a handler raises on its way out: the job is wanted no more.
        if (reason := self._refusal(job)) is not None:
            return _cancelled(job, reason)
        match error:
            case Discard():
                return _cancelled(job, str(error))
            case Snooze():
                reason = storable(error.reason) if error.reason else None
                return _put_back(job, reason, error.seconds)
        if self._tracing is not None:
            self._tracing.raised(error)
        match error:
            case PermanentError():
                return Ended(job.id, job.attempt, JobState.DEAD, storable(str(error)))
            case TypeError():
                text = misfit(handler, job.args) or error_text(error)
            case _:
                text = error_text(error)
        return _failed(job, handler.policy, text)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _within(
    seconds: float,
    function: Callable[..., Any],
    args: Mapping[str, Any],
) -> tuple[bool, Any]:
    """Tell whether the function returned in time, and what; its own TimeoutError is raised."""
    deadline = asyncio.timeout(seconds)
    value = None
    try:
        async with deadline:
            value = await function(**args)
    except TimeoutError:
        if not deadline.expired():
            raise
    return not deadline.expired(), value


def _call(handler: Handler, args: Mapping[str, Any]) -> Return:
    """Call a plain function in a thread; an exception is returned, never raised."""
    try:
        result = handler.function(**args)
        if inspect.iscoroutine(result):
            result.close()
            return PermanentError(
                "the handler is a plain function that returned a coroutine: "
                "make it (or the decorator around it) `async def`",
            )
    except BaseException as error:  # noqa: BLE001 - nothing a handler raises may end the thread
        return error
    return encode_result(result) if handler.store_result else None


def _succeeded(job: Job, result: Result | None) -> Ended:
    if result is None:
        return Ended(job.id, job.attempt, JobState.SUCCEEDED)
    return Ended(job.id, job.attempt, JobState.SUCCEEDED, result.error, result=result.text)


def _cancelled(job: Job, reason: str) -> Ended:
    return Ended(job.id, job.attempt, JobState.CANCELLED, storable(reason))


def _put_back(job: Job, reason: str | None, pause: float, *, started: bool = True) -> Ended:
    return Ended(
        job.id,
        job.attempt,
        JobState.AVAILABLE,
        reason,
        pause,
        started=started,
        started_at=job.started_at,
    )


def _failed(job: Job, policy: RetryPolicy, error: str) -> Ended:
    pause = retry_in(_policy(job, policy), job.failures + 1, random.random())  # noqa: S311 - jitter
    if pause is None:
        return Ended(job.id, job.attempt, JobState.DEAD, storable(error))
    pause = min(LONGEST_PAUSE, max(0.0, pause))
    return Ended(job.id, job.attempt, JobState.FAILED, storable(error), pause)


def _policy(job: Job, policy: RetryPolicy) -> RetryPolicy:
    if job.retry is not None:
        # Written by SQL it may be anything: then the type's policy is better than none.
        with suppress(AttributeError, OverflowError, RecursionError, TypeError, ValueError):
            policy = RetryPolicy.from_dict(json.loads(job.retry))
    if job.max_attempts is not None:
        policy = replace(policy, max_attempts=job.max_attempts)
    return policy
