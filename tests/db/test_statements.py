from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from pillars.db.statements import Statement, load_statements

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

TWO = """
-- name: first
-- Take what is due,
-- best first.
-- index: things_due
SELECT 1  -- a remark stays
    -- a note on a line of its own does not
FROM things;

-- name: second
-- Put it back.
SELECT 2
"""
OWNERS = ("queue", "cluster", "cron", "telemetry", "server", "loadtest")


@pytest.fixture
def load(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], Mapping[str, Statement]]:
    def write(text: str) -> Mapping[str, Statement]:
        package = tmp_path / "owner_of_statements"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "queries.sql").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, package.name, raising=False)
        return load_statements(package.name)

    return write


def test_statements_are_read_with_name_description_and_index(
    load: Callable[..., Mapping[str, Statement]],
) -> None:
    assert load(TWO) == {
        "first": Statement(
            "first",
            "SELECT 1  -- a remark stays\nFROM things",
            "Take what is due, best first.",
            "things_due",
        ),
        "second": Statement("second", "SELECT 2", "Put it back.", None),
    }


def test_two_statements_of_one_name_are_refused(load: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="two statements are called 'first'"):
        load(TWO + "-- name: first\n-- Again.\nSELECT 3\n")


@pytest.mark.parametrize("head", ["", "-- index: things_due\n"])
def test_a_statement_without_a_description_is_refused(
    load: Callable[..., Any],
    head: str,
) -> None:
    with pytest.raises(ValueError, match="'bare' has no description"):
        load(f"-- name: bare\n{head}SELECT 1\n")


@pytest.mark.parametrize("owner", OWNERS)
def test_our_own_files_are_in_order(owner: str) -> None:
    statements = load_statements(f"pillars.{owner}")

    assert statements
    assert [name for name, s in statements.items() if not s.description.endswith((".", "?"))] == []
