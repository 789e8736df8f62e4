"""What a schedule is: `Timing` says when it fires, `Schedule` what then happens.

Both are frozen values. `Timing.encode` is canonical, so that replicas can memoise by its text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import mmh3

from pillars.cluster.ring import slot_of
from pillars.cron.duration import format_duration
from pillars.cron.expression import parse_cron
from pillars.cron.faults import Fault, ScheduleError
from pillars.cron.fields import read_mapping
from pillars.cron.policies import Ambiguous, Catchup, Missing, Overlap
from pillars.cron.zones import instants_of
from pillars.queue.retry import RetryPolicy

__all__ = [
    "Ambiguous",
    "Catchup",
    "Fault",
    "Missing",
    "Overlap",
    "Schedule",
    "ScheduleError",
    "Timing",
    "jitter_of",
    "parse_schedule",
    "when_in_words",
]


@dataclass(frozen=True, slots=True)
class Timing:
    """When a schedule fires: all that `next_fire` needs. Instants are epoch seconds.

    One of `cron`, `every` (seconds) and `at` is set. In `cron`, `H` is already substituted.
    """

    cron: str | None = None
    every: int | None = None
    at: int | None = None
    phase: int = 0
    timezone: str = "UTC"
    missing: Missing = Missing.SHIFT
    ambiguous: Ambiguous = Ambiguous.FIRST
    start_at: int | None = None
    end_at: int | None = None

    def encode(self) -> str:
        """Return compact JSON with sorted keys, defaults left out: equal timings, equal text."""
        given = {
            name: value
            for name, default in _TIMING_DEFAULTS
            if (value := getattr(self, name)) != default
        }
        return _compact(given)

    @staticmethod
    @lru_cache(maxsize=65_536)
    def decode(text: str) -> Timing:
        """Return the timing that `encode` wrote; the same object for the same text.

        Raises:
            ValueError: not such a text.

        """
        raw = json.loads(text)
        raw["missing"] = Missing(raw.get("missing", Missing.SHIFT))
        raw["ambiguous"] = Ambiguous(raw.get("ambiguous", Ambiguous.FIRST))
        return Timing(**raw)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as its author defined it; durations in seconds.

    `cron_text` is the expression as written; None for `timeout` and `retry` leaves them to the
    job type.
    """

    name: str
    timing: Timing
    job: str
    args: Mapping[str, Any] = field(default_factory=dict)
    queue: str = "default"
    priority: int = 0
    catchup: Catchup = Catchup.LAST
    catchup_window: int | None = None
    catchup_limit: int = 100
    overlap: Overlap = Overlap.ALLOW
    jitter: int = 0
    enabled: bool = True
    timeout: float | None = None
    retry: RetryPolicy | None = None
    cron_text: str | None = None
    _fingerprint: str | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def slot(self) -> int:
        """The place on the ring, 0 to 4095: the top bits of the name's hash."""
        return slot_of(self.name)

    def fingerprint(self) -> str:
        """Return a hex digest that changes when anything about the schedule does."""
        if self._fingerprint is not None:
            return self._fingerprint
        # The timing is digested too: it changes when only the spreading of H does.
        whole = _compact([self.as_dict(), self.timing.encode()])
        found = hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()
        # Asked for by whoever compares, and a set may hold a million.
        object.__setattr__(self, "_fingerprint", found)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return what to write in YAML or JSON for this schedule; defaults are left out.

        `parse_schedule` reads an equal schedule from it.
        """
        timing = self.timing
        written = {
            "name": self.name,
            "cron": self.cron_text or timing.cron,
            "every": _duration(timing.every),
            "at": _moment(timing.at),
            "phase": _duration(timing.phase or None),
            "timezone": None if timing.timezone == "UTC" else timing.timezone,
            "job": self.job,
            "args": dict(self.args) or None,
            "catchup_window": _duration(self.catchup_window),
            "jitter": _duration(self.jitter or None),
            "dst": _changed(missing=timing.missing, ambiguous=timing.ambiguous) or None,
            "start_at": _moment(timing.start_at),
            "end_at": _moment(timing.end_at),
            "timeout": _duration(self.timeout),
            "retry": self.retry and self.retry.as_dict(),
        } | _changed(
            queue=self.queue,
            priority=self.priority,
            catchup=self.catchup,
            catchup_limit=self.catchup_limit,
            overlap=self.overlap,
            enabled=self.enabled,
        )
        return {key: value for key, value in written.items() if value is not None}


def parse_schedule(raw: Mapping[str, Any]) -> Schedule:
    """Read a schedule from a mapping in the vocabulary of the YAML files.

    Raises:
        ScheduleError: with every fault there is.

    """
    if not isinstance(raw, Mapping):
        raise ScheduleError([Fault(None, "a schedule must be a mapping")])
    values, faults = read_mapping(raw)
    timing = _timing(raw, values, faults)
    if faults:
        raise ScheduleError(faults)
    retry = values["retry"]
    return Schedule(
        name=values["name"],
        timing=timing,
        job=values["job"],
        args=values["args"],
        queue=values["queue"],
        priority=values["priority"],
        catchup=values["catchup"],
        catchup_window=values["catchup_window"],
        catchup_limit=values["catchup_limit"],
        overlap=values["overlap"],
        jitter=values["jitter"],
        enabled=values["enabled"],
        timeout=values["timeout"],
        retry=retry and RetryPolicy(**retry),
        cron_text=values["cron"],
    )


def when_in_words(definition: Mapping[str, Any]) -> str:
    """Return when a definition fires as its author wrote it: `cron 0 9 * * mon (Europe/Berlin)`."""
    zone = f" ({definition['timezone']})" if "timezone" in definition else ""
    said = (f"{key} {definition[key]}{zone}" for key in _WAYS if key in definition)
    return next(said, "")


def jitter_of(name: str, fire_at: int, jitter: int) -> float:
    """Return how long after its tick a job starts: `0 <= seconds < jitter`, to the millisecond.

    A hash of schedule and tick, so it is the same on every replica.
    """
    if jitter <= 0:
        return 0.0
    return mmh3.hash(f"{fire_at} {name}", signed=False) % (jitter * 1000) / 1000


def _timing(raw: Mapping[str, Any], values: dict[str, Any], faults: list[Fault]) -> Timing:
    """Combine what depends on several keys; adds to the faults."""
    ways = [key for key in _WAYS if key in raw]
    if len(ways) != 1:
        many = f", not {' and '.join(ways)}" if ways else ""
        faults.append(Fault(ways[-1] if ways else None, f"give one of cron, every and at{many}"))
    zone = values["timezone"]
    instants = {
        key: _instant(key, values[key], zone, faults) for key in ("at", "start_at", "end_at")
    }
    start, end = instants["start_at"], instants["end_at"]
    if start is not None and end is not None and end < start:
        faults.append(Fault("end_at", "'end_at' lies before 'start_at': it would never fire"))
    if instants["at"] is not None and (start is not None or end is not None):
        key = "start_at" if start is not None else "end_at"
        faults.append(Fault(key, f"{key!r} has no use beside 'at', which fires once"))
    every, phase = values["every"], values["phase"]
    if phase is not None and "every" not in raw:
        faults.append(Fault("phase", "'phase' has a meaning only beside 'every'"))
    if every and phase and phase >= every:
        faults.append(Fault("phase", f"'phase' must be shorter than 'every', {every}s"))
    dst = (values["dst"] or {}) if values["cron"] else {}
    return Timing(
        cron=_cron(values["cron"], values["name"] or "", faults),
        every=every,
        phase=phase or 0,
        timezone=zone or "UTC",
        missing=dst.get("missing") or Missing.SHIFT,
        ambiguous=dst.get("ambiguous") or Ambiguous.FIRST,
        **instants,
    )


def _cron(text: str | None, name: str, faults: list[Fault]) -> str | None:
    if text is None:
        return None
    try:
        return parse_cron(text, name=name).text
    except ScheduleError as error:
        faults += error.faults
        return None


def _instant(
    key: str, moment: datetime | None, zone: str | None, faults: list[Fault]
) -> int | None:
    """Return the epoch seconds of a moment, that may be a wall time of the zone."""
    if moment is None or zone is None:
        return None
    if moment.tzinfo is not None:
        return int(moment.timestamp())
    found = instants_of(zone, int(moment.replace(tzinfo=UTC).timestamp()))
    if len(found) == 1:
        return found[0]
    what = "comes twice" if found else "does not exist"
    faults.append(Fault(key, f"{key!r}: {moment} {what} in {zone}; add an offset such as +02:00"))
    return None


def _changed(**given: object) -> dict[str, Any]:
    """Return what differs from the default, in plain JSON types."""
    return {
        key: str(value) if isinstance(value, str) else value
        for key, value in given.items()
        if value != _DEFAULTS[key]
    }


def _duration(seconds: float | None) -> str | None:
    return None if seconds is None else format_duration(seconds)


def _moment(instant: int | None) -> str | None:
    if instant is None:
        return None
    return datetime.fromtimestamp(instant, UTC).isoformat().replace("+00:00", "Z")


# Made once: `json.dumps` would make an encoder each time.
_compact: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
_WAYS: Final = ("cron", "every", "at")
_TIMING_DEFAULTS: Final = tuple((each.name, each.default) for each in fields(Timing))
_DEFAULTS: Final = {each.name: each.default for kind in (Timing, Schedule) for each in fields(kind)}
