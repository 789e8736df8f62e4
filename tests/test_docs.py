"""The README's tables are held against the code they describe."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pillars.cron.fields import SCHEDULE
from pillars.ground.settings import SETTINGS, Settings, load_settings
from pillars.telemetry import catalog
from pillars.telemetry import keys as log_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pillars.cron.fields import Field

README = Path(__file__).parents[1] / "README.md"


def section(mark: str) -> str:
    """What stands in the README between `<!-- mark -->` and `<!-- /mark -->`."""
    return README.read_text().split(f"<!-- {mark} -->\n")[1].split(f"<!-- /{mark} -->")[0].strip()


def settings_table() -> str:
    defaults = {field.name: field.default for field in fields(Settings)}
    rows = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for setting in SETTINGS:
        default = defaults[setting.field]
        shown = "-" if default in {None, ()} else f"`{default}`"
        if isinstance(default, float):
            shown = f"`{default / 86_400:g}d`" if default >= 86_400 else f"`{default:g}s`"
        rows.append(f"| `{setting.env}` | {shown} | {setting.help} |")
    return "\n".join(rows)


def _flat(group: tuple[Field, ...], prefix: str = "") -> Iterator[tuple[str, Field]]:
    for field in group:
        if isinstance(field.kind, tuple):
            yield from _flat(field.kind, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field


def keys_table() -> str:
    rows = ["| Key | Default | Meaning |", "|---|---|---|"]
    for name, field in _flat(SCHEDULE):
        default = "required" if field.required else "-"
        if field.default not in (None, {}):
            is_text = isinstance(field.default, str)
            default = f"`{field.default if is_text else json.dumps(field.default)}`"
        rows.append(f"| `{name}` | {default} | {field.doc} |")
    return "\n".join(rows)


@pytest.mark.parametrize(
    ("mark", "table"),
    [
        ("settings", settings_table()),
        ("keys", keys_table()),
        ("metrics", catalog.markdown_table()),
        ("logs", log_keys.markdown_table()),
    ],
)
def test_the_table_in_the_readme_is_the_one_in_the_code(mark: str, table: str) -> None:
    assert table == section(mark)


def test_the_defaults_that_are_documented_are_the_ones_in_force() -> None:
    assert Settings() == load_settings({})


def test_every_test_that_the_readme_names_exists() -> None:
    names = set(re.findall(r"`(test_\w+)`", README.read_text()))
    assert names != set()
    source = "\n".join(file.read_text() for file in README.parent.glob("tests/**/test_*.py"))
    missing = {name for name in names if f"def {name}(" not in source}
    assert missing == set()
