"""The jobs a request asks for: their fields, how they are read, and the JSON schema of both."""

from __future__ import annotations

import re
from typing import Any

from pillars.queue.jobs import (
    LONGEST_KEY,
    MOST_AT_ONCE,
    RESERVED_KEYS,
    JobError,
    NewJob,
    check_job,
)
from pillars.queue.retry import LONGEST_PAUSE, MOST_ATTEMPTS, Backoff, RetryPolicy
from pillars.server.fields import (
    Field,
    ReadError,
    array,
    instant,
    integer,
    json_object,
    number,
    object_schema,
    one_of,
    read_object,
    text,
)
from pillars.server.problems import Fault, at

MOST_JOBS = 1_000
NAME = r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}"
NAME_SCHEMA = {"type": "string", "pattern": f"^{NAME}$"}
_SHORTEST, _LONGEST_TIMEOUT = 0.001, 30 * 86_400


def read_jobs(value: object, faults: list[Fault]) -> list[NewJob]:
    """Return the jobs a request body asks for; add every fault."""
    if not isinstance(value, dict) or "jobs" not in value:
        job = _read_job(value, "", faults)
        return [job] if job else []
    batch = read_object(value, [_BATCH], faults).get("jobs", [])
    if not 1 <= len(batch) <= MOST_JOBS:
        if not faults:
            detail = f"jobs must hold 1 to {MOST_JOBS:,} jobs, not {len(batch):,}"
            faults.append(Fault(detail, pointer="/jobs"))
        return []
    found = (_read_job(item, f"/jobs/{number}", faults) for number, item in enumerate(batch))
    return [job for job in found if job is not None]


def _read_job(value: object, pointer: str, faults: list[Fault]) -> NewJob | None:
    mine: list[Fault] = []
    given = read_object(value, _JOB, mine)
    if "delay" in given and "run_at" in given:
        mine.append(Fault("give run_at or delay, not both", pointer="/delay"))
    job = None
    if not mine:
        try:
            job = NewJob(**given)
            check_job(job)
        except JobError as error:
            mine.append(Fault(str(error), pointer=_blamed(str(error))))
    faults += [at(fault, pointer) for fault in mine]
    return None if mine else job


def _blamed(sentence: str) -> str:
    # The queue's sentences begin with the field's name.
    word = sentence.partition(" ")[0]
    return f"/{word}" if word in {field.name for field in _JOB} else ""


def jobs_schema() -> dict[str, Any]:
    """Return the JSON schema of a body: one job, or a batch."""
    # Either may be null, which is not given.
    not_both = {
        "required": ["run_at", "delay"],
        "properties": {"run_at": {"type": "string"}, "delay": {"type": "number"}},
    }
    keys = [
        _needs("unique_for", "number", "unique_key"),
        _needs("concurrency_limit", "integer", "concurrency_key"),
    ]
    job = object_schema(_JOB, **{"not": not_both, "allOf": keys})
    jobs = {"type": "array", "minItems": 1, "maxItems": MOST_JOBS, "items": job}
    batch = {
        "type": "object",
        "additionalProperties": False,
        "required": ["jobs"],
        "properties": {"jobs": jobs},
    }
    return {
        "oneOf": [job, batch],
        "examples": [{"type": "mail.welcome", "args": {"to": "a@example.org"}, "delay": 60}],
    }


def _needs(name: str, kind: str, other: str) -> dict[str, Any]:
    return {
        "if": {"required": [name], "properties": {name: {"type": kind}}},
        "then": {"required": [other], "properties": {other: {"type": "string"}}},
    }


def _retry_policy(value: object) -> RetryPolicy:
    faults: list[Fault] = []
    given = read_object(value, _RETRY, faults)
    if faults:
        raise ReadError(f"is no policy: {'; '.join(fault.detail for fault in faults)}")
    return RetryPolicy.from_dict(given)


job_name = text(128, re.compile(NAME))
_ATTEMPTS = {"type": "integer", "minimum": 1, "maximum": MOST_ATTEMPTS}
_PAUSE = {"type": "number", "minimum": 0, "maximum": LONGEST_PAUSE}
_RETRY = (
    Field("max_attempts", "default 5", _ATTEMPTS, integer(1, MOST_ATTEMPTS)),
    Field(
        "backoff",
        "how the pause grows with each failure; default exponential",
        {"type": "string", "enum": [*Backoff, None]},
        one_of(*Backoff),
    ),
    Field("base", "the first pause; default 10", _PAUSE, number(0, LONGEST_PAUSE, "seconds")),
    Field("max", "no pause is longer; default 3600", _PAUSE, number(0, LONGEST_PAUSE, "seconds")),
)
_SECONDS = {"type": "number", "minimum": _SHORTEST, "maximum": LONGEST_PAUSE}
_JOB = (
    Field("type", "the name its handler is registered under", NAME_SCHEMA, job_name, required=True),
    Field("args", "the handler's arguments, 1 MiB at most", {"type": "object"}, json_object),
    Field("queue", "default: the job type's, where this server knows it", NAME_SCHEMA, job_name),
    Field(
        "priority",
        "lower first, as in nice; default 0",
        {"type": "integer", "minimum": -32_768, "maximum": 32_767},
        integer(-32_768, 32_767),
    ),
    Field(
        "run_at",
        "not before this instant; RFC 3339 with an offset",
        {"type": "string", "format": "date-time"},
        instant,
    ),
    Field(
        "delay",
        "seconds from now, by the database's clock; instead of run_at",
        {"type": "number", "minimum": 0, "maximum": LONGEST_PAUSE},
        number(0, LONGEST_PAUSE, "seconds"),
    ),
    Field(
        "max_attempts",
        "how often it is tried; default: the job type's",
        _ATTEMPTS,
        integer(1, MOST_ATTEMPTS),
    ),
    Field(
        "retry",
        "how it is tried again, for this job alone; default: the job type's",
        object_schema(_RETRY),
        _retry_policy,
    ),
    Field(
        "timeout",
        "seconds an attempt may take; default: the job type's",
        {"type": "number", "minimum": _SHORTEST, "maximum": _LONGEST_TIMEOUT},
        number(_SHORTEST, _LONGEST_TIMEOUT, "seconds"),
    ),
    Field(
        "unique_key",
        "while an unfinished job has this key, no other is enqueued with it: its id is returned",
        {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
        text(LONGEST_KEY),
    ),
    Field(
        "unique_for",
        "seconds from now that the key is kept even if the job has ended",
        _SECONDS,
        number(_SHORTEST, LONGEST_PAUSE, "seconds"),
    ),
    Field(
        "concurrency_key",
        "of the jobs that share this key, concurrency_limit run at a time",
        {
            "type": "string",
            "minLength": 1,
            "maxLength": LONGEST_KEY,
            "pattern": f"^(?!{RESERVED_KEYS})",
        },
        text(LONGEST_KEY),
    ),
    Field(
        "concurrency_limit",
        "how many; default 1",
        {"type": "integer", "minimum": 1, "maximum": MOST_AT_ONCE},
        integer(1, MOST_AT_ONCE),
    ),
    Field(
        "expires_in",
        "seconds after its time by which it must be started, else it is cancelled",
        _SECONDS,
        number(_SHORTEST, LONGEST_PAUSE, "seconds"),
    ),
)
_BATCH = Field("jobs", "the jobs", {"type": "array"}, array, required=True)
