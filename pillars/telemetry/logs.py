"""Log lines from events: text for people, JSON for machines; the words are in `wording`.

All loggers, ours and those of libraries and handlers, end in one handler: one format, one line a
record, and no secret passes its filter.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TextIO

from pillars.ground.events import Event, JobLost, JobsFinished, ProcessStopped, TicksFired
from pillars.queue.trace import trace_id
from pillars.telemetry.keys import fields_of, key_of
from pillars.telemetry.redaction import redact_record
from pillars.telemetry.tracing import current_trace
from pillars.telemetry.wording import (
    Worded,
    more_jobs,
    more_ticks,
    swept_ticks,
    worded,
    words_for,
)
from pillars.worker.context import running_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from pillars.ground.clock import Clock
    from pillars.ground.events import Events

LINES_PER_SECOND = 20
# Libraries that tell at INFO what nobody asked: each request, each file that was looked at.
_TALKATIVE = ("aiohttp", "asyncio", "psycopg")

# Outcomes of ticks in the log; a duplicate is one that another cron tells of.
_TOLD_TICKS = ("enqueued", "skipped", "missed")

JOB_LOGGER = "pillars.job"

logger = logging.getLogger("pillars")


def configure_logging(
    format: Literal["text", "json"],  # noqa: A002 - the setting's word
    role: str,
    name: str,
    level: int = logging.INFO,
    stream: TextIO | None = None,
) -> None:
    """Send every record of this process through one handler; calling it again replaces it.

    Args:
        format: text for people, with colours on a terminal; json for machines.
        role: server, worker or cron.
        name: the process's name.
        level: what is below it is dropped; libraries are heard from WARNING at the least.
        stream: where the lines go; default standard output.
    """
    stream = stream or sys.stdout
    handler = _Handler(stream)
    handler.addFilter(redact_record)
    handler.setFormatter(
        JsonFormatter(role, name)
        if format == "json"
        else TextFormatter(role, name, colours=_wants_colours(stream)),
    )
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for library in _TALKATIVE:
        logging.getLogger(library).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(capture=True)


class LogListener:
    """Writes a line for each event that has words; of floods of jobs or ticks the rest is counted.

    `step` is for a `Stepper`, so that the last second of a flood is told of in time.
    """

    def __init__(self, events: Events, clock: Clock) -> None:
        """Listen to everything that has words."""
        self._jobs = Throttle(clock, LINES_PER_SECOND)
        self._ticks = Throttle(clock, LINES_PER_SECOND)
        self._longest_late = 0.0
        for kind in worded() - {JobLost, ProcessStopped}:
            if issubclass(kind, Event):
                events.subscribe(kind, self._say)
        events.subscribe(JobsFinished, self._jobs_finished)
        events.subscribe(JobLost, self._job_lost)
        events.subscribe(TicksFired, self._ticks_fired)
        events.subscribe(ProcessStopped, self._process_stopped)

    async def step(self) -> float:
        """Tell of jobs and ticks that had no line; returns 1 second."""
        if self._jobs.second_is_over():
            self._tell_jobs()
        if self._ticks.second_is_over():
            self._tell_ticks()
        return 1.0

    def _jobs_finished(self, event: JobsFinished) -> None:
        if self._jobs.second_is_over():
            self._tell_jobs()
        for job in event.jobs:
            if self._jobs.admits(job.outcome):
                self._say(job)

    def _job_lost(self, event: JobLost) -> None:
        if self._jobs.second_is_over():
            self._tell_jobs()
        if self._jobs.admits("dead"):
            self._say(event)

    def _ticks_fired(self, event: TicksFired) -> None:
        if self._ticks.second_is_over():
            self._tell_ticks()
        # Missed ones come in runs, and their rows tell why: they are only counted.
        ticks = [tick for tick in event.ticks if tick.outcome != "missed"]
        for tick in ticks:
            if self._ticks.admits(tick.outcome):
                self._say(tick)
        one_by_one = Counter(tick.outcome for tick in ticks)
        for outcome in _TOLD_TICKS:
            if not (event.swept and outcome == "enqueued"):
                self._ticks.hold(outcome, event.outcomes.get(outcome, 0) - one_by_one[outcome])
        if event.swept:
            self._ticks.hold("swept", event.outcomes.get("enqueued", 0))
            self._longest_late = max(self._longest_late, *event.lateness, 0.0)

    def _process_stopped(self, event: ProcessStopped) -> None:
        self._tell_jobs()
        self._tell_ticks()
        self._say(event)

    def _tell_jobs(self) -> None:
        for outcome, count in self._jobs.reset().items():
            level, text = more_jobs(count, outcome)
            _write(level, "JobsFinished", text, {"outcome": outcome, "count": count})

    def _tell_ticks(self) -> None:
        late, self._longest_late = self._longest_late, 0.0
        for outcome, count in self._ticks.reset().items():
            fields: dict[str, Any] = {"outcome": outcome, "count": count}
            if outcome == "swept":
                level, text = swept_ticks(count, late)
                fields["late"] = late
            else:
                level, text = more_ticks(count, outcome)
            _write(level, "TicksFired", text, fields)

    def _say(self, event: Worded) -> None:
        words = words_for(event)
        if words is None or not logger.isEnabledFor(words[0]):
            return
        fields = {field: getattr(event, field) for field in fields_of(type(event))}
        _write(words[0], type(event).__name__, words[1], fields)


class Throttle:
    """Lets so many of each kind through in a second and counts the others."""

    def __init__(self, clock: Clock, limit: int) -> None:
        """Start a second with the first one that comes."""
        self._clock = clock
        self._limit = limit
        self._began = float("-inf")
        self._admitted: dict[str, int] = {}
        self._held: dict[str, int] = {}

    def second_is_over(self) -> bool:
        """Tell whether it is time to `reset`."""
        return self._clock.monotonic() - self._began >= 1.0

    def admits(self, kind: str) -> bool:
        """Tell whether one more of a kind is let through; it is counted if not."""
        admitted = self._admitted.get(kind, 0)
        if admitted >= self._limit:
            self.hold(kind)
            return False
        self._admitted[kind] = admitted + 1
        return True

    def hold(self, kind: str, count: int = 1) -> None:
        """Count some more that were not let through."""
        if count:
            self._held[kind] = self._held.get(kind, 0) + count

    def reset(self) -> dict[str, int]:
        """Begin a new second; return how many of each kind were not let through."""
        held, self._held = self._held, {}
        self._admitted.clear()
        self._began = self._clock.monotonic()
        return held


# ---- formats


class TextFormatter(logging.Formatter):
    """`12:00:01.123 cron/alpha  joined with 1,365 slots (ring 7)`, in local time."""

    def __init__(self, role: str, name: str, *, colours: bool) -> None:
        """Say on each line who speaks."""
        super().__init__()
        self._who = f"{role}/{name}"
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows it, indented."""
        time = f"{self.formatTime(record, '%H:%M:%S')}.{int(record.msecs):03d}"
        text = _one_line(record.getMessage())
        if record.name == JOB_LOGGER and (job := running_job()) is not None:
            text = f"job {job.id} {job.type}: {text}"
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname}: {text}"
        if not _is_ours(record):
            text = f"{text} [{record.name}]"
        if record.exc_text:
            text += "".join(f"\n    {_one_line(line)}" for line in record.exc_text.splitlines())
        if not self._colours:
            return f"{time} {self._who}  {text}"
        colour = _COLOURS.get(record.levelno, "")
        return f"{_DIM}{time}{_PLAIN} {_CYAN}{self._who}{_PLAIN}  {colour}{text}{_PLAIN}"


class JsonFormatter(logging.Formatter):
    """One object a line; `keys` tells with which keys. `ts` is in UTC."""

    def __init__(self, role: str, name: str) -> None:
        """Say in each object who speaks."""
        super().__init__()
        self._role = role
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        """Return the object as one line."""
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": getattr(record, "event", None),
            "role": self._role,
            "name": self._name,
            "message": record.getMessage(),
        }
        for field, value in getattr(record, "fields", {}).items():
            line[key_of(field)] = value
        if record.name != logger.name and (job := running_job()) is not None:
            # Whoever logs while a handler runs: its own lines are found by the job.
            fields = job.log_fields
            line |= {"type": fields.pop("job_type"), **fields}
            line["trace_id"] = trace_id(current_trace())
        if record.exc_text:
            line["traceback"] = record.exc_text
        return json.dumps(line, ensure_ascii=False, default=_plain)


class _Handler(logging.StreamHandler[TextIO]):
    """The handler of `configure_logging`, told from others by its type."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        # A terminal that cannot show a letter must not cost the line.
        reconfigure: Callable[..., None] | None = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


# ---- helpers


def _write(level: int, event: str, text: str, fields: dict[str, Any]) -> None:
    # The text is the whole message: a `%` in it is no placeholder.
    logger.log(level, "%s", text, extra={"event": event, "fields": fields})


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name == "pillars" or record.name.startswith("pillars.")


def _one_line(text: str) -> str:
    # Job errors and requests are other people's text: no line breaks, no terminal commands.
    return text.translate(_CONTROLS)


def _wants_colours(stream: TextIO) -> bool:
    no_colour = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not no_colour


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_CONTROLS |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
_DIM, _CYAN, _PLAIN = "\x1b[2m", "\x1b[36m", "\x1b[0m"
_COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}
