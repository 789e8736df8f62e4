"""Crontabs: of users, and with `system` of /etc/crontab and /etc/cron.d, which name a user.

Sources: crontab(5) of Debian's cron, of cronie (CRON_TZ, RANDOM_DELAY, `~`) and of the BSDs
(`-n` and `-q` before the command, `@every_minute`).
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from pillars.cron.expression import ALIASES
from pillars.cron.imports.draft import Draft, UntranslatableError, settle
from pillars.cron.imports.fields import Days, our_cron

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pillars.cron.imports.draft import Imported

# Cron never makes up for what it missed.
DEFAULTS: Final = {"catchup": "none"}
_VARIABLE: Final = re.compile(
    r"""\s*(?P<quote>["']?)(?P<name>[A-Za-z_]\w*)(?P=quote)\s*=\s*(?P<value>.*?)\s*"""
)
_MAIL: Final = frozenset({"MAILTO", "MAILFROM"})
_PROGRAM_LATER: Final = frozenset({"cd", "test", "[", "[[", ".", "source", "export", "sleep", "("})
_WRAPPERS: Final = frozenset(
    {"sudo", "nice", "ionice", "env", "exec", "time", "timeout", "nohup", "flock", "chronic"}
)
_INTERPRETERS: Final = re.compile(r"(python|php|perl|ruby|node|bash|sh|dash|zsh)[\d.]*")
_TIME_FIELDS: Final = 5


def read_crontab(text: str, *, job: str, timezone: str | None, system: bool = False) -> Imported:
    """Return drafts of a crontab's lines; the job gets `command`, and `env`, `user`, `stdin`.

    Args:
        text: the crontab.
        job: the job type that runs commands.
        timezone: the zone of the machine; None assumes UTC and says so.
        system: whether the sixth field is a user.
    """
    reading = _Reading(job, timezone, system)
    drafts = list(reading.drafts(text))
    if timezone is None and reading.zoneless:
        reading.notes.append(
            "no --timezone: UTC is assumed, while cron goes by the zone of its machine"
        )
    return settle(drafts, DEFAULTS, reading.notes, (_REMARK,) if drafts else ())


_REMARK: Final = (
    "`catchup: none` as in cron, which never makes up for what it missed; without it the last"
    " missed fire is enqueued late."
)


@dataclass
class _Reading:
    """The state of a crontab from one line to the next."""

    job: str
    timezone: str | None
    system: bool
    env: dict[str, str] = field(default_factory=dict)
    zone: str | None = None
    delay: str | None = None
    notes: list[str] = field(default_factory=list)
    zoneless: bool = False

    def drafts(self, text: str) -> Iterator[Draft]:
        comments: list[str] = []
        # Not splitlines: only a newline ends a line of a crontab.
        for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
            line = raw.strip(" \t")
            if line.startswith("#"):
                comments.append(line.lstrip("# \t"))
            elif not line:
                comments = []
            elif match := _VARIABLE.fullmatch(line):
                self._set(match["name"], _unquoted(match["value"]), number)
                comments = []
            else:
                yield self._entry(line, number, tuple(filter(None, comments)))
                comments = []

    def _set(self, name: str, value: str, number: int) -> None:
        if name == "CRON_TZ":
            self.zone = value
        elif name == "RANDOM_DELAY":
            self.delay = value
        elif name in _MAIL:
            if value:
                self.notes.append(f"line {number}: {name} is not carried over: no output is mailed")
        else:
            self.env[name] = value

    def _entry(self, line: str, number: int, comments: tuple[str, ...]) -> Draft:
        notes: list[str] = []
        origin = f"line {number}"
        # SUSE's dash keeps a line out of the log.
        words = line.removeprefix("-").split(None, 1)
        try:
            when, rest = self._when(line.removeprefix("-"), words)
            user, command = self._command(rest)
        except UntranslatableError as error:
            return Draft(f"entry-{number}", None, origin, line, (str(error),), comments)
        args: dict[str, Any] = {}
        args["command"], stdin = _split_percent(command)
        if stdin is not None:
            args["stdin"] = stdin
            notes.append("the text after % goes to the command's standard input: args.stdin")
        if user is not None:
            args["user"] = user
            notes.append(f"ran as the user {user}: jobs run as the worker's user")
        if self.env:
            args["env"] = dict(self.env)
        keys = {**when, **self._zone(when), "job": self.job, "args": args, **self._jitter(notes)}
        return Draft(_name(args["command"]), keys, origin, line, tuple(notes), comments)

    def _when(self, line: str, words: list[str]) -> tuple[dict[str, Any], str]:
        rest = words[1] if len(words) > 1 else ""
        if not line.startswith("@"):
            fields = line.split(None, _TIME_FIELDS)
            if len(fields) <= _TIME_FIELDS:
                raise UntranslatableError("is no line of a crontab: five fields and a command")
            return {"cron": our_cron(fields[:_TIME_FIELDS], Days.VIXIE)}, fields[_TIME_FIELDS]
        alias = words[0].lower()
        if alias == "@reboot":
            raise UntranslatableError(
                "runs at the start of a machine, and none belongs to a schedule"
            )
        if alias == "@every_minute":
            return {"cron": "* * * * *"}, rest
        if alias == "@every_second":
            return {"every": "1s"}, rest
        if alias not in ALIASES:
            raise UntranslatableError(f"{alias} is unknown")
        return {"cron": alias}, rest

    def _command(self, rest: str) -> tuple[str | None, str]:
        user = None
        if self.system:
            user, rest = (*rest.split(None, 1), "", "")[:2]
        while (flag := rest.lstrip().split(None, 1)[:1]) and re.fullmatch("-[nqs]+", flag[0]):
            rest = rest.lstrip()[len(flag[0]) :]
        command = rest.strip()
        if not command:
            raise UntranslatableError("holds no command behind its times")
        return user, command

    def _zone(self, when: dict[str, Any]) -> dict[str, Any]:
        zone = self.zone or self.timezone
        if "cron" not in when:
            return {}
        self.zoneless = self.zoneless or self.zone is None
        return {} if zone in {None, "UTC"} else {"timezone": zone}

    def _jitter(self, notes: list[str]) -> dict[str, Any]:
        if self.delay is None:
            return {}
        if not re.fullmatch(r"\d{1,6}", self.delay, re.ASCII):
            notes.append(f"RANDOM_DELAY is no number of minutes: {self.delay!r}")
            return {}
        return {"jitter": f"{int(self.delay)}m"} if int(self.delay) else {}


def _unquoted(value: str) -> str:
    for quote in "\"'":
        if len(value) > 1 and value[0] == value[-1] == quote:
            return value[1:-1]
    return value


def _split_percent(command: str) -> tuple[str, str | None]:
    r"""Return command and standard input: the first `%` ends the command, others end lines."""
    parts = [part.replace("\\%", "%") for part in re.split(r"(?<!\\)%", command)]
    return parts[0], "\n".join(parts[1:]) + "\n" if len(parts) > 1 else None


def _name(command: str) -> str:
    """Name a schedule by the program it runs: `cd /srv && ./manage.py x` is `manage`."""
    for segment in re.split(r"&&|\|\||[;|]", command):
        words = [word for word in _words(segment) if not re.match(r"[A-Za-z_]\w*=", word)]
        if not words or words[0] in _PROGRAM_LATER:
            continue
        program = _program(words)
        if slug := re.sub(r"[^\w.-]+", "-", PurePosixPath(program).stem).strip("-."):
            return slug[:60]
    return "job"


def _program(words: list[str]) -> str:
    named = [word for word in words if not word.startswith("-")]
    while len(named) > 1 and (
        PurePosixPath(named[0]).name in _WRAPPERS
        or _INTERPRETERS.fullmatch(PurePosixPath(named[0]).name)
        or named[0].isdigit()
        or named[0].startswith("/var/lock")
    ):
        named.pop(0)
    return named[0] if named else words[0]


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
