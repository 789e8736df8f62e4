"""SQL lives in `.sql` files beside its owner; each statement has a name and a line of description.

    -- name: claim
    -- Take due jobs for a worker, best first.
    -- index: jobs_ready
    WITH ... SELECT ...

The `index` line is what EXPLAIN must show; a test holds every hot statement to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statement:
    """A named SQL statement with `%(name)s` parameters."""

    name: str
    sql: LiteralString
    description: str
    index: str | None


def load_statements(package: str, file: str = "queries.sql") -> Mapping[str, Statement]:
    """Read the statements of a package's `.sql` file.

    Raises:
        ValueError: two statements share a name, or one has no description.
    """
    text = files(package).joinpath(file).read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    statements: dict[str, Statement] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if name in statements:
            raise ValueError(f"{package}/{file}: two statements are called {name!r}")
        statements[name] = _statement(name, body, f"{package}/{file}")
    return statements


def composed(
    name: str,
    index: str | None,
    first: Statement,
    last: Statement,
    **parts: Statement,
) -> Statement:
    """Return one statement of several: `first` opens with WITH, each part is a further CTE of it.

    So a statement can write tables of several owners, each with SQL of its own.
    """
    sql = first.sql
    for part, statement in parts.items():
        sql += f", {part} AS ({statement.sql})"
    return Statement(name, sql + " " + last.sql, first.description, index)


def _statement(name: str, body: str, where: str) -> Statement:
    lines = body.strip().splitlines()
    comments = [line[3:] for line in lines if line.startswith("-- ")]
    sql = "\n".join(line for line in lines if not line.lstrip().startswith("-- ")).strip()
    indexes = [line.removeprefix("index: ") for line in comments if line.startswith("index: ")]
    prose = [line for line in comments if not line.startswith("index: ")]
    if not prose:
        raise ValueError(f"{where}: statement {name!r} has no description")
    return Statement(
        name=name,
        sql=sql.removesuffix(";"),
        description=" ".join(prose),
        index=indexes[0] if indexes else None,
    )
