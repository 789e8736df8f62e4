"""What the parser is made of: a command, the flags that many share, and kinds of values."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import Any

from pillars.ground.errors import did_you_mean
from pillars.ground.settings import duration

# The longest number that every column and LIMIT of the database takes.
_DIGITS = 18
_MANY = 10_000
_HIGHEST_PORT = 65_535
_MOST_DAYS = 366
_FIRST_YEAR, _LAST_YEAR = 1970, 2999

Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse gives the type no public name


class Parser(argparse.ArgumentParser):
    """A parser that answers a slip of the keys with the nearest word it knows.

    What was read has in `parser` the one of the command, which knows the flags that fit.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - argparse's
        """Take what any parser takes."""
        super().__init__(*args, **options)
        self.set_defaults(parser=self)

    def refuse(self, unknown: str) -> None:
        """Tell of an argument that it does not know; ends the process with exit code 2."""
        flags = [*self._option_string_actions] if unknown.startswith("-") else []
        near = did_you_mean(unknown.partition("=")[0], flags)
        self.error(f"unknown argument {unknown!r}{near or '; --help shows those there are'}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:  # noqa: ANN401 - argparse's
        if action.choices is not None and value not in action.choices:
            near = did_you_mean(str(value), action.choices)
            known = ", ".join(map(str, action.choices))
            raise argparse.ArgumentError(action, f"there is no {value!r}{near} ({known})")


def command(
    commands: Commands[argparse.ArgumentParser],
    name: str,
    run: str,
    description: str,
) -> argparse.ArgumentParser:
    """Add a command; `run` names the function to import and call."""
    parser = commands.add_parser(
        name,
        help=description,
        description=description[0].upper() + description[1:] + ".",
    )
    parser.set_defaults(run=f"pillars.cli.{run}")
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where `pillars up` keeps its database (PILLARS_DATA_DIR, default .pillars)",
    )
    return parser


def json_flag(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def app_flag(parser: argparse.ArgumentParser, words: str) -> None:
    """Add --app; `words` are its help."""
    parser.add_argument("--app", metavar="MODULE:APP", help=words)


def directory_flag(parser: argparse.ArgumentParser) -> None:
    """Add --schedules-dir."""
    parser.add_argument(
        "--schedules-dir",
        type=Path,
        metavar="DIR",
        help="the schedule files (PILLARS_SCHEDULES_DIR, default schedules)",
    )


def count(text: str) -> int:
    """Read a whole number from 1."""
    if not text.isdecimal() or len(text) > _DIGITS or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def whole(text: str) -> int:
    """Read a whole number from 0."""
    if not text.isdecimal() or len(text) > _DIGITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def few(text: str) -> int:
    """Read a whole number from 1 to 10,000."""
    if not text.isdecimal() or len(text) > _DIGITS or not 1 <= int(text) <= _MANY:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_MANY:,}")
    return int(text)


def seconds(text: str) -> int:
    """Read a duration of whole seconds."""
    found = span(text)
    if found != int(found):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of whole seconds")
    return int(found)


def span(text: str) -> float:
    """Read a duration in seconds."""
    try:
        return duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is {error}") from None


def page(text: str) -> Path:
    """Read the path of a page to write."""
    if not text.endswith(".html"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end with .html")
    return file(text)


def file(text: str) -> Path:
    """Read the path of a file to write: refuses now what could not be when the work is done."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a directory: name a file in it")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}: there is no such directory to write it to")
    return path


def days(text: str) -> int:
    """Read a number of days, up to a year."""
    if not text.isdecimal() or len(text) > _DIGITS or not 1 <= int(text) <= _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_MOST_DAYS}")
    return int(text)


def day(text: str) -> date:
    """Read a date of the years in which schedules fire."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date like 2026-10-25") from None
    if not _FIRST_YEAR <= found.year <= _LAST_YEAR:
        raise argparse.ArgumentTypeError(f"{text!r} is not in the years 1970 to 2999")
    return found


def svg(text: str) -> Path:
    """Read the path of a file to draw."""
    if not text.endswith(".svg"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end with .svg")
    return file(text)


def port(text: str) -> int:
    """Read a port."""
    if not text.isdecimal() or len(text) > _DIGITS or int(text) > _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)
