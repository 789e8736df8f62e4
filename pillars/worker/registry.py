"""Which function does which type of job."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pillars.ground.errors import PillarsError, did_you_mean
from pillars.queue.jobs import DEFAULT_QUEUE, NewJob, check_job
from pillars.queue.retry import DEFAULT_RETRY, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable


class RegistrationError(PillarsError):
    """A function cannot be registered for this job type."""


@dataclass(frozen=True, slots=True)
class Handler:
    """What is known of one job type.

    Attributes:
        type: the job type's name.
        function: called with the job's args as keywords.
        queue: where jobs of this type go unless told otherwise.
        policy: how often and when a failed attempt is repeated.
        timeout: seconds an attempt may take; None is without limit.
        is_async: the function runs on the loop; otherwise in a thread.
        store_result: what the function returns is kept with the job.
    """

    type: str
    function: Callable[..., Any]
    queue: str
    policy: RetryPolicy
    timeout: float | None
    is_async: bool
    store_result: bool = False


class Registry:
    """All job types one process can do."""

    def __init__(self) -> None:
        """Start with none."""
        self._handlers: dict[str, Handler] = {}

    def register(
        self,
        type: str,  # noqa: A002 - what users call it everywhere else
        function: Callable[..., Any],
        *,
        queue: str = "default",
        policy: RetryPolicy = DEFAULT_RETRY,
        timeout: float | None = None,
        store_result: bool = False,
    ) -> Handler:
        """Let `function` do all jobs of this type.

        Raises:
            JobError: the type, queue, timeout or number of attempts cannot be used.
            RegistrationError: the type is taken, or the function cannot be a handler.
        """
        check_job(NewJob(type, queue=queue, timeout=timeout, max_attempts=policy.max_attempts))
        self._refuse_misfits(type, function)
        is_async = _is_async(function)
        handler = Handler(type, function, queue, policy, timeout, is_async, store_result)
        self._handlers[type] = handler
        return handler

    def get(self, type: str) -> Handler | None:  # noqa: A002 - as in register
        """Return the handler of a job type, None when it is unknown here."""
        return self._handlers.get(type)

    def at_home(self, job: NewJob) -> NewJob:
        """Return the job on its type's queue, unless it names one or the type is unknown here."""
        handler = self._handlers.get(job.type)
        if handler is None or job.queue is not None or handler.queue == DEFAULT_QUEUE:
            return job
        return replace(job, queue=handler.queue)

    def types_of(self, function: Callable[..., Any]) -> tuple[str, ...]:
        """Return the job types a function handles, in order of name."""
        handlers = self._handlers.values()
        return tuple(sorted(each.type for each in handlers if each.function is function))

    def names(self) -> tuple[str, ...]:
        """Return all known job types in order of name."""
        return tuple(sorted(self._handlers))

    def unknown(self, type: str) -> str:  # noqa: A002 - as in register
        """Return what tells people that a job type is unknown, which ones are not, what to do."""
        names = self.names()
        return (
            f"job type {type!r} is unknown to this worker{did_you_mean(type, names)} "
            f"(known: {', '.join(names) or 'none'}): "
            "start workers with the application that has it, or cancel the job"
        )

    def _refuse_misfits(self, name: str, function: Callable[..., Any]) -> None:
        if name in self._handlers:
            taken = _where(self._handlers[name].function)
            raise RegistrationError(f"job type {name!r} is registered already, by {taken}")
        if not callable(function):
            raise RegistrationError(f"job type {name!r}: {function!r} is not a function")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise RegistrationError(
                f"job type {name!r}: {_where(function)} is a generator, "
                "whose body would never run: take the `yield` out",
            )


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None),  # noqa: B004 - not whether it can be called, but how
    )


def _where(function: Callable[..., Any]) -> str:
    name = getattr(function, "__qualname__", repr(function))
    return f"{getattr(function, '__module__', '?')}.{name}"
