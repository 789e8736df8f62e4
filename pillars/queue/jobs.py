"""A job before it is on the queue: what can be said of it, and what is wrong with it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pillars.db.statements import load_statements
from pillars.ground.errors import PillarsError
from pillars.queue.retry import LONGEST_PAUSE, MOST_ATTEMPTS, RetryPolicy, fault_of
from pillars.queue.trace import read_traceparent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SQL = load_statements("pillars.queue")
# Bytes of the text that jsonb makes of them.
LONGEST_ARGS = 1024 * 1024
# Characters: jsonb takes up to six times as much, and may take 256 MB for a value.
LONGEST_BATCH = 32 * 1024 * 1024
# Containers in each other, whatever stack the worker that reads them has left.
DEEPEST_ARGS = 200
LONGEST_KEY = 256
DEFAULT_QUEUE = "default"
# By one concurrency key.
MOST_AT_ONCE = 1_000
# Concurrency keys of schedules whose ticks must not overlap.
RESERVED_KEYS = "schedule:"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")
_LONGEST_DELAY = LONGEST_PAUSE
_SHORTEST_TIMEOUT, _LONGEST_TIMEOUT = 0.001, 30 * 86_400
# An escaped NUL, told from an escaped backslash before a u0000.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
# As jsonb writes it, but for numbers with an exponent.
_like_jsonb = json.JSONEncoder(ensure_ascii=False).encode
# jsonb's spaces make a text longer by half at most, what `_json` escapes none.
_SURELY_SHORT = LONGEST_ARGS * 2 // 3
# jsonb writes 1e+300 as 301 digits, fifty times as many characters.
_SURELY_SHORT_WRITTEN_OUT = LONGEST_ARGS // 60
_TEXT, _EXPONENT = re.compile(r'"(?:[^"\\]|\\.)*"'), re.compile(r"e[+-](\d+)")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_FIRST_INSTANT, _FIRST_BEYOND = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
_LOWEST_PRIORITY, _HIGHEST_PRIORITY = -32_768, 32_767


class JobError(PillarsError):
    """A job cannot be enqueued as it is."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be enqueued.

    Attributes:
        type: the name a handler was registered under.
        args: the handler's keyword arguments; JSON.
        queue: workers may serve some queues only; None leaves it to the job type where an app
            enqueues it, else `default`.
        priority: lower first, as in `nice`; -32768 to 32767.
        run_at: not before this instant; None is at once.
        delay: not before this many seconds from now, by the database's clock.
        max_attempts: None leaves it to the job type's policy.
        timeout: seconds an attempt may take; None leaves it to the job type.
        retry: a policy for this job alone; None leaves it to the job type.
        unique_key: while an unfinished job has this key, no other is enqueued with it.
        unique_for: seconds from now that the key is kept even if the job has ended.
        concurrency_key: of the jobs that share this key, `concurrency_limit` run at a time.
        concurrency_limit: see there; 1 unless given.
        expires_in: seconds after its time by which the job must be started, else it is cancelled.
        trace: W3C `traceparent` of whoever enqueues it.
    """

    type: str
    args: Mapping[str, Any] = field(default_factory=dict)
    queue: str | None = None
    priority: int = 0
    run_at: datetime | None = None
    delay: float | None = None
    max_attempts: int | None = None
    timeout: float | None = None
    retry: RetryPolicy | None = None
    unique_key: str | None = None
    unique_for: float | None = None
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    expires_in: float | None = None
    trace: str | None = None


def check_job(job: NewJob) -> str:
    """Return the job's args as JSON text.

    Raises:
        JobError: what is wrong and how to mend it.
    """
    _check_fields(job)
    return _encode(job)


def check_jobs(jobs: Sequence[NewJob]) -> str:
    """Return the args of all as the text of one JSON array.

    Raises:
        JobError: what is wrong with one, or with all together, and how to mend it.
    """
    for job in jobs:
        _check_fields(job)
    try:
        text = _json([dict(job.args) for job in jobs])
    except (TypeError, ValueError, RecursionError):
        text = None
    if text is None or _may_be_at_fault(text):
        # One of them may be at fault: only one by one it shows which.
        text = f"[{','.join(map(_encode, jobs))}]"
    if len(text) > LONGEST_BATCH:
        raise JobError(
            f"args of these {len(jobs):,} jobs take {len(text):,} bytes, the limit is "
            f"{LONGEST_BATCH:,}: split the batch",
        )
    return text


def in_trace(jobs: Sequence[NewJob], trace: str | None) -> Sequence[NewJob]:
    """Return the jobs as part of a trace, except those that have one of their own."""
    return jobs if trace is None else [replace(job, trace=job.trace or trace) for job in jobs]


def queue_of(job: NewJob) -> str:
    """Return the queue the job goes to."""
    return DEFAULT_QUEUE if job.queue is None else job.queue


def _check_fields(job: NewJob) -> None:
    for what, value in (("type", job.type), ("queue", queue_of(job))):
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise JobError(
                f"{what} {value!r} is not a name: use letters, digits and _ . : - (up to 128)",
            )
    if not _LOWEST_PRIORITY <= job.priority <= _HIGHEST_PRIORITY:
        raise JobError(f"priority {job.priority} is out of range: -32768 (first) to 32767 (last)")
    _check_attempts(job)
    if job.run_at is not None and job.run_at.tzinfo is None:
        raise JobError("run_at has no time zone: give an aware datetime")
    if job.run_at is not None and not _is_within_reach(job.run_at):
        raise JobError(
            f"run_at {job.run_at} is out of range: from the year 1970 to before the year 9000",
        )
    if job.delay is not None and job.run_at is not None:
        raise JobError("run_at and delay are both given: a job starts at one time")
    if job.delay is not None and not 0 <= job.delay <= _LONGEST_DELAY:
        raise JobError(f"delay {job.delay} is out of range: 0 to {_LONGEST_DELAY:,} seconds")
    if job.trace is not None and read_traceparent(job.trace) != job.trace:
        raise JobError(
            f"trace {job.trace!r} is no W3C traceparent: 00-<32 hex digits>-<16>-<2>, lower case",
        )
    _check_keys(job)


def _check_attempts(job: NewJob) -> None:
    if job.max_attempts is not None and not 1 <= job.max_attempts <= MOST_ATTEMPTS:
        raise JobError(f"max_attempts {job.max_attempts} is out of range: 1 to {MOST_ATTEMPTS}")
    if job.retry is not None and (fault := fault_of(job.retry)):
        raise JobError(f"retry is no policy: {fault}")
    if job.timeout is not None and not _SHORTEST_TIMEOUT <= job.timeout <= _LONGEST_TIMEOUT:
        raise JobError(
            f"timeout {job.timeout} is out of range: 0.001 to {_LONGEST_TIMEOUT:,} s, or none",
        )


def _check_keys(job: NewJob) -> None:
    if job.unique_key is not None:
        _check_key("unique_key", job.unique_key)
    if job.concurrency_key is not None:
        _check_key("concurrency_key", job.concurrency_key)
        if job.concurrency_key.startswith(RESERVED_KEYS):
            raise JobError(f"concurrency_key may not begin with {RESERVED_KEYS!r}")
    for what, key, of_key in (
        ("unique_for", job.unique_key, job.unique_for),
        ("concurrency_limit", job.concurrency_key, job.concurrency_limit),
    ):
        if of_key is not None and key is None:
            raise JobError(f"{what} needs a {what.partition('_')[0]}_key")
    for what, seconds in (("unique_for", job.unique_for), ("expires_in", job.expires_in)):
        if seconds is not None and not 0 < seconds <= _LONGEST_DELAY:
            raise JobError(f"{what} {seconds} is out of range: up to {_LONGEST_DELAY:,} seconds")
    if job.concurrency_limit is not None and not 1 <= job.concurrency_limit <= MOST_AT_ONCE:
        raise JobError(f"concurrency_limit {job.concurrency_limit} is out of range: 1 to 1000")


def _check_key(what: str, key: str) -> None:
    if not (isinstance(key, str) and 1 <= len(key) <= LONGEST_KEY):
        raise JobError(f"{what} is not a text of 1 to {LONGEST_KEY} characters")
    if "\0" in key:
        raise JobError(f"{what} holds a NUL character, which PostgreSQL cannot store")
    if _has_half_a_pair(key):
        raise JobError(f"{what} holds half a surrogate pair, which is no Unicode text")


def _is_within_reach(instant: datetime) -> bool:
    # The first is a tenth of the work, and only near the ends not enough.
    return 1970 < instant.year < 8999 or _FIRST_INSTANT <= instant < _FIRST_BEYOND  # noqa: PLR2004


def _has_half_a_pair(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _encode(job: NewJob) -> str:
    try:
        text = _json(dict(job.args))
    except (TypeError, ValueError) as error:
        raise JobError(f"args of {job.type!r} are not a JSON object: {error}") from None
    except RecursionError:
        raise _too_deep(job) from None
    if _may_be_at_fault(text):
        _check_args(job, text)
    return text


def _may_be_at_fault(text: str) -> bool:
    """Tell in little time whether some args among these may be at fault."""
    return (
        len(text) > _SURELY_SHORT
        or (len(text) > _SURELY_SHORT_WRITTEN_OUT and ("e+" in text or "e-" in text))
        # One character is found ten times as fast as three.
        or ("\\" in text and ("\\u0000" in text or "\\ud" in text))
        or (len(text) > 2 * DEEPEST_ARGS and _may_be_deep(text))
    )


def _may_be_deep(text: str) -> bool:
    """Tell whether brackets are too deep in each other, or belong to texts and look like it."""
    if text.count("[") + text.count("{") <= DEEPEST_ARGS:
        return False
    brackets = text.encode().translate(None, _NO_BRACKETS)
    # Each turn takes one or two of them away.
    for _ in range(DEEPEST_ARGS // 2):
        length = len(brackets)
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(brackets) in (0, length):
            break
    return bool(brackets)


def _check_args(job: NewJob, text: str) -> None:
    args = dict(job.args)
    if _depth(args) > DEEPEST_ARGS:
        raise _too_deep(job)
    as_stored = _like_jsonb(args)
    if _has_half_a_pair(as_stored):
        raise JobError(
            f"args of {job.type!r} hold half a surrogate pair, which is no Unicode text",
        )
    size = len(as_stored.encode()) + _written_out(text)
    if size > LONGEST_ARGS:
        raise JobError(
            f"args of {job.type!r} take {size:,} bytes, the limit is {LONGEST_ARGS:,}: "
            "store the data elsewhere and pass its key",
        )
    if "\\u0000" in text and _NUL.search(text):
        raise JobError(f"args of {job.type!r} hold a NUL character, which PostgreSQL cannot store")


def _written_out(text: str) -> int:
    """Return how many more characters, at most, jsonb needs for the exponents in this JSON."""
    return sum(map(int, _EXPONENT.findall(_TEXT.sub("", text))))


def _depth(value: dict[str, Any]) -> int:
    depth = 0
    level: list[Any] = [value]
    while level:
        depth += 1
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, (dict, list, tuple))
        ]
    return depth


def _too_deep(job: NewJob) -> JobError:
    return JobError(f"args of {job.type!r} are nested more than {DEEPEST_ARGS} deep")
