"""Queues over HTTP: how full they are, their limits, pause and resume."""

from __future__ import annotations

from pillars.queue.desk import QueueRecord, list_queues, show_queue
from pillars.queue.limits import QueueLimits, limit_queue, pause_queue
from pillars.server.fields import Field, integer, number
from pillars.server.operations import NO_BODY, Answer, Body, Call, Context, Operation
from pillars.server.records import listing, schema_of, to_json

_MOST = 2**31 - 1
_HIGHEST_RATE = 1_000_000
_LOWEST_RATE = 0.000_01


async def list_all_queues(context: Context, _: Call) -> Answer:
    """Return the queues that hold unfinished jobs, are limited or are paused."""
    return Answer({"queues": to_json(await list_queues(context.database))})


async def put_limits(context: Context, call: Call) -> Answer:
    """Set a queue's limits, whole: what is not given is not limited."""
    await limit_queue(context.database, QueueLimits(call.path["name"], **call.body))
    return await _shown(context, call)


async def pause(context: Context, call: Call) -> Answer:
    """Start no more jobs of a queue; those that run go on."""
    await pause_queue(context.database, call.path["name"], paused=True)
    return await _shown(context, call)


async def resume(context: Context, call: Call) -> Answer:
    """Start a queue's jobs again."""
    await pause_queue(context.database, call.path["name"], paused=False)
    return await _shown(context, call)


async def _shown(context: Context, call: Call) -> Answer:
    return Answer(to_json(await show_queue(context.database, call.path["name"])))


_LIMITS = (
    Field(
        "concurrency",
        "how many of its jobs run at a time, over all workers",
        {"type": "integer", "minimum": 1, "maximum": _MOST},
        integer(1, _MOST),
    ),
    Field(
        "rate",
        "how many start a second, on average",
        {"type": "number", "minimum": _LOWEST_RATE, "maximum": _HIGHEST_RATE},
        number(_LOWEST_RATE, _HIGHEST_RATE),
    ),
    Field(
        "burst",
        "how many may start at once after a lull; default: those of a tenth of a second",
        {"type": "integer", "minimum": 1, "maximum": _MOST},
        integer(1, _MOST),
    ),
)


_QUEUES = "/api/v1/queues"
_RECORD = schema_of(QueueRecord)
OPERATIONS = (
    Operation(
        "GET",
        _QUEUES,
        "listQueues",
        "Depth, oldest waiting job and limits of each queue that has any",
        list_all_queues,
        answer=listing("queues", QueueRecord),
    ),
    Operation(
        "PUT",
        f"{_QUEUES}/{{name}}",
        "limitQueue",
        "Set how many jobs of a queue run at a time and start a second; what is left out is lifted",
        put_limits,
        answer=_RECORD,
        body=Body.of(*_LIMITS),
    ),
    Operation(
        "POST",
        f"{_QUEUES}/{{name}}/pause",
        "pauseQueue",
        "Start no more jobs of a queue; those that run go on",
        pause,
        answer=_RECORD,
        body=NO_BODY,
    ),
    Operation(
        "POST",
        f"{_QUEUES}/{{name}}/resume",
        "resumeQueue",
        "Start a queue's jobs again",
        resume,
        answer=_RECORD,
        body=NO_BODY,
    ),
)
