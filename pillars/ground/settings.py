"""All settings, read once from the environment and the command line, frozen, checked together.

`SETTINGS` is the single definition: the loader, `--help` and the README's table derive from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pillars.ground.errors import PillarsError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "PILLARS_"


class SettingsError(PillarsError):
    """Some settings cannot be used."""

    def __init__(self, faults: list[str]) -> None:
        """Keep every fault; the message lists one a line."""
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class Secret:
    """A string that shows itself only when asked: never in logs, errors or a repr."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Wrap the value."""
        self._value = value

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def __repr__(self) -> str:
        """Hide the value."""
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        """Compare by value."""
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        """Hash by value."""
        return hash(self._value)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a Pillars process needs to know; durations in seconds."""

    database_url: Secret | None = None
    direct_database_url: Secret | None = None
    schedules_dir: Path = Path("schedules")
    schedules_revision: int | None = None
    app: str | None = None
    lookahead: float = 5.0
    lease: float = 5.0
    name: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    metrics_port: int = 0
    concurrency: int = 20
    processes: int = 1
    queues: tuple[str, ...] = ()
    drain_timeout: float = 25.0
    retention: float = 86_400.0
    retention_failed: float = 14 * 86_400.0
    log: Literal["text", "json"] = "text"
    api_token: Secret | None = None
    data_dir: Path = Path(".pillars")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its field, how its text is read, and one line for people."""

    field: str
    parse: Callable[[str], Any]
    help: str

    @property
    def env(self) -> str:
        """The environment variable."""
        return PREFIX + self.field.upper()


def load_settings(environ: Mapping[str, str], **overrides: object) -> Settings:
    """Read all settings; overrides (from flags) win over the environment, None means not given.

    Raises:
        SettingsError: with every fault found, one a line.
    """
    faults: list[str] = []
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        text = environ.get(setting.env, "").strip()
        if not text:
            continue
        try:
            values[setting.field] = setting.parse(text)
        except ValueError as error:
            shown = "***" if setting.parse in (_url, Secret) else repr(text)
            faults.append(f"{setting.env}={shown}: {error}")
    known = {setting.env for setting in SETTINGS}
    # Only near misses: others may own names that begin like ours (Kubernetes sets some itself).
    faults += [
        f"{name}: no such setting{meant}"
        for name in environ
        if name.startswith(PREFIX)
        and name not in known
        and (meant := did_you_mean(name, known, cutoff=0.85))
    ]
    values |= {field: value for field, value in overrides.items() if value is not None}
    settings = Settings(**values)
    faults += _contradictions(settings)
    if faults:
        raise SettingsError(faults)
    return settings


def setting_names() -> tuple[str, ...]:
    """Names of all environment variables that are settings."""
    return tuple(setting.env for setting in SETTINGS)


def duration(text: str) -> float:
    """Read `5`, `5s`, `500ms`, `15m`, `1h30m` or `7d` as seconds.

    Raises:
        ValueError: when the text is none of these.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h|d))+", text):
        raise ValueError("not a duration: write 5, 500ms, 15m, 1h30m or 7d")
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_HIGHEST_PORT = 65_535
_SHORTEST_LEASE = 1.0
_LONGEST_LOOKAHEAD = 60.0


def _url(text: str) -> Secret:
    if not re.match(r"postgres(ql)?://", text) and "=" not in text:
        raise ValueError(
            "not a PostgreSQL URL: write postgresql://user:password@host:5432/database"
        )
    return Secret(text)


def _port(text: str) -> int:
    if text.startswith("tcp://"):
        raise ValueError(
            "set by Kubernetes for a service called pillars: "
            "put enableServiceLinks: false into the pod, or rename the service",
        )
    if not text.isdecimal() or int(text) > _HIGHEST_PORT:
        raise ValueError("not a port: write a number from 0 (any free port) to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("not a count: write a whole number from 1")
    return int(text)


def _revision(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("not a revision: write a whole number that grows with each release")
    return int(text)


def _log_format(text: str) -> str:
    if text not in ("text", "json"):
        raise ValueError("not a log format: write text or json")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _app(text: str) -> str:
    if not re.fullmatch(r"[\w.]+:[\w.]+", text):
        raise ValueError("not an app: write module:attribute, as in myproject.jobs:app")
    return text


def _contradictions(settings: Settings) -> list[str]:
    faults = []
    if settings.lease < _SHORTEST_LEASE:
        faults.append(f"PILLARS_LEASE={settings.lease:g}: shorter than 1s expels healthy members")
    if settings.lookahead > _LONGEST_LOOKAHEAD:
        faults.append(f"PILLARS_LOOKAHEAD={settings.lookahead:g}: more than 60s is of no use")
    return faults


SETTINGS: tuple[Setting, ...] = (
    Setting("database_url", _url, "PostgreSQL 14 or newer; `pillars up` brings its own without it"),
    Setting("direct_database_url", _url, "the same database past a pooler, for LISTEN (optional)"),
    Setting("schedules_dir", Path, "the directory of schedule files"),
    Setting("schedules_revision", _revision, "orders sets of schedule files: a lower one waits"),
    Setting("app", _app, "the application: job handlers, schedules in code; module:attribute"),
    Setting("lookahead", duration, "how long before its time a tick is enqueued; 0 to 60s"),
    Setting("lease", duration, "silence after which a member is taken for dead; 1s or more"),
    Setting("name", str, "this process's name in lists and on the ring; default host-role-pid"),
    Setting("host", str, "the address the HTTP endpoints bind to"),
    Setting("port", _port, "the server's port"),
    Setting("metrics_port", _port, "port of /metrics and /readyz on worker and cron; 0: any free"),
    Setting("concurrency", _count, "jobs a worker runs at once"),
    Setting("processes", _count, "worker processes that are operated, and report, as one"),
    Setting("queues", _names, "queues a worker serves, comma-separated; default all"),
    Setting("drain_timeout", duration, "how long running jobs may go on after a stop is asked for"),
    Setting("retention", duration, "how long succeeded, skipped and missed jobs are kept"),
    Setting("retention_failed", duration, "how long dead and cancelled jobs are kept"),
    Setting("log", _log_format, "text for people, json for machines"),
    Setting("api_token", Secret, "bearer token; required for writes unless bound to loopback"),
    Setting("data_dir", Path, "where `pillars up` keeps its embedded PostgreSQL"),
)

if {setting.field for setting in SETTINGS} != {field.name for field in fields(Settings)}:
    raise AssertionError("SETTINGS and Settings differ")  # pragma: no cover - a developer's slip
