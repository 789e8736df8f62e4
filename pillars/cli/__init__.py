"""The command line: one parser, one module a family of commands, imported only when it is called.

Exit codes: 0 done, 1 failed, 2 usage.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

from pillars.cli.parser import parse
from pillars.ground.errors import PillarsError, UsageError
from pillars.ground.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE, FAILED, USAGE = 0, 1, 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; errors become one sentence each on stderr."""
    arguments = parse(argv)
    module, function = arguments.run.split(":")
    try:
        return int(getattr(importlib.import_module(module), function)(arguments) or DONE)
    except (SettingsError, UsageError) as error:
        return _fail(str(error), USAGE)
    except PillarsError as error:
        return _fail(str(error), FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) went away; nothing is left to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        sentence = _database_sentence(error)
        if sentence is None:
            raise
        return _fail(sentence, FAILED)


def _fail(message: str, code: int) -> int:
    for line in message.splitlines():
        print(f"pillars: {line}", file=sys.stderr)
    return code


def _database_sentence(error: Exception) -> str | None:
    """Return what a failure of the database means to whoever typed the command, if it is one."""
    if "psycopg" not in sys.modules:
        return None
    import psycopg  # noqa: PLC0415 - costly, and loaded already when it matters

    from pillars.ground.loop import describe  # noqa: PLC0415
    from pillars.telemetry.redaction import redact  # noqa: PLC0415

    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
        return "this database has no Pillars tables yet: run `pillars migrate`"
    if isinstance(error, psycopg.errors.UndefinedColumn | psycopg.errors.UndefinedFunction):
        return "this database's tables are older than this Pillars: run `pillars migrate`"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return f"this database user lacks a right ({error.diag.message_primary}): ask its owner"
    if isinstance(error, psycopg.OperationalError | TimeoutError):
        return (
            "the database cannot be reached: is it running, and is PILLARS_DATABASE_URL right? "
            f"({redact(describe(error))})"
        )
    return None
