"""Whatever stands in a schedule file: definitions that can be fired, or faults with their lines.

Files are made from the schema and then spoilt, in their values, in their text and in their bytes.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pillars.cron import firing, readers, yaml_scalars
from pillars.cron.files import FileFault, ScheduleFilesError, load_directory
from pillars.cron.schema import schedule_schema
from tests.cron.ticking import NOON, own, write
from tests.helpers import FakeClock
from tests.properties.from_schema import mutants, values

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from pillars.db.database import Database
    from tests.helpers import RecordingListener

MANY = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# No message repeats a whole file.
LONGEST_MESSAGE = 600
# Lines that go in between others.
LINES: Final = (
    "\t- tab: 1",
    "  \tx: 1",
    "x: &a [1]",
    "y: *a",
    "<<: *a",
    "  <<: {job: x}",
    "? {a: b}\n: c",
    "? [1]",
    "- - - -",
    "1: 2",
    "~: x",
    "true: x",
    "2030-01-01: x",
    "name: again",
    "    name: again",
    "    priority: 0o17",
    "    priority: 010",
    "    priority: 1_000",
    "    priority: 0x1F",
    "    priority: 1:30",
    "    priority: " + "9" * 5_000,
    "    priority: .nan",
    "    every: .inf",
    "    every: 1e999",
    "    every: -5",
    "    jitter: " + "9" * 400 + "s",
    "    start_at: 0000-00-00",
    "    start_at: 2030-02-30T25:61:61Z",
    "    start_at: !!timestamp 2030-01-01",
    "    enabled: yes",
    "    cron: * * * * *",
    "    cron: @daily",
    "    timezone: ../../etc/passwd",
    "    args: !!python/object/apply:os.system [true]",
    "    args: !!binary aGk=",
    "    args: {a: " + "{a: " * 80 + "1" + "}" * 81,
    "    args: " + "[" * 3_000,
    "    args: {a: " + "x" * 70_000 + "}",
    '    args: {"\\0": "\\uD800"}',
    '    args: {"\\xff": "\\U00110000"}',
    "    args: {? {a: b} : c}",
    "    args: {a: |\n  x\n y}",
    "---",
    "...",
    "%YAML 9.9",
    "%TAG ! tag:x,2000:",
    "# \u2028 \u0085",
    "'",
    '"',
    "{",
    "]",
    "|",
    "&",
    "\ufeff",
    "\0",
    "\x1b[31m",
    "\ud7ff\ue000\U0010ffff",
)
LAUGHS = "\n".join(
    ["a0: &a0 [x]", *(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]" for n in range(9))]
)
BYTES: Final = (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xfe\xff", b"\0", b"\r")


@st.composite
def texts(draw: st.DrawFn, *, spoilt: bool) -> str:
    """The text of a file with a few schedules."""
    one = values(schedule_schema(named=True))
    whole: Any = {"schedules": draw(st.lists(one, min_size=1, max_size=3))}
    if spoilt and draw(st.booleans()):
        whole = draw(mutants(whole))
    if draw(st.booleans()):
        return json.dumps(whole, indent=2)
    try:
        return yaml.safe_dump(whole, sort_keys=False, allow_unicode=draw(st.booleans()))
    except UnicodeEncodeError:
        return json.dumps(whole)


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """The bytes of a file, sound or spoilt."""
    spoilt = draw(st.booleans())
    text = draw(texts(spoilt=spoilt))
    if not spoilt:
        return text.encode("utf-8", "surrogatepass")
    lines = text.split("\n")
    for line in draw(st.lists(st.sampled_from((*LINES, LAUGHS)), max_size=2)):
        lines.insert(draw(st.integers(0, len(lines))), line)
    data = (
        draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
        .join(lines)
        .encode("utf-8", "surrogatepass")
    )
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 20)))
        put = draw(st.sampled_from(BYTES) | st.binary(max_size=3) | st.just(data[start:end] * 2))
        data = data[:start] + put + data[end:]
    return draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xff\xfe"])) + data


@pytest.fixture
def take(
    database: Database, sql: psycopg.Connection[Any], events: RecordingListener, tmp_path: Path
) -> Callable[[bytes], Awaitable[list[str]]]:
    """Read a file and fire what it holds; returns what is wrong with that, or with the faults."""

    ticker = own(database, events, FakeClock(NOON))

    async def taken(data: bytes) -> list[str]:
        (tmp_path / "some.yaml").write_bytes(data)
        try:
            schedules = load_directory(tmp_path).schedules
        except ScheduleFilesError as error:
            return misplaced(error, data)
        sql.execute("TRUNCATE pillars.schedules, pillars.jobs, pillars.removed_schedules")
        await write(database, sql, *schedules, cursor=NOON)
        await ticker.step()
        rows = sql.execute("SELECT DISTINCT schedule FROM pillars.jobs").fetchall()
        enabled = {schedule.name for schedule in schedules if schedule.enabled}
        return [f"{name!r} is not fired" for name in enabled - {row[0] for row in rows}]

    return taken


@MANY
@given(data=contents())
async def test_a_file_is_read_and_can_be_fired_or_is_refused_with_all_its_faults_in_their_places(
    take: Callable[[bytes], Awaitable[list[str]]], data: bytes
) -> None:
    assert await take(data) == []


def misplaced(error: ScheduleFilesError, data: bytes) -> list[str]:
    """Return the faults that are told without a line of the file, or at too great length."""
    # YAML takes more for the end of a line than others do.
    last = len(re.split(rb"\r\n|[\r\n]|\xc2\x85|\xe2\x80[\xa8\xa9]", data))
    return [
        str(fault)
        for fault in error.faults
        if not fault.file.endswith("some.yaml")
        or not 1 <= (fault.line or 0) <= last
        or not 0 < len(fault.message) <= LONGEST_MESSAGE
    ] or ([] if error.faults else ["no fault at all"])


# ---- it can fail

PLACE = "some.yaml", 1, 1
SOUND = "schedules: [{name: a, job: b, every: 1m}]"


@pytest.mark.parametrize(
    ("fault", "sound"),
    [
        (FileFault(*PLACE, "is wrong"), True),
        (FileFault("some.yaml", None, None, "is wrong"), False),
        (FileFault("some.yaml", 3, 1, "lies behind the end"), False),
        (FileFault("other.yaml", 1, 1, "is wrong"), False),
        (FileFault(*PLACE, "is wrong " * 100), False),
        (FileFault(*PLACE, ""), False),
    ],
)
def test_the_judge_finds_faults_out_of_place(fault: FileFault, *, sound: bool) -> None:
    assert (misplaced(ScheduleFilesError([fault]), b"a\nb") == []) is sound


@pytest.mark.parametrize(
    ("module", "guard", "stand_in", "text", "raised"),
    [
        (
            readers,
            "_storable",
            lambda text: text,
            'schedules: [{name: a, job: b, every: 1m, args: {a: "\\0"}}]',
            psycopg.DataError,
        ),
        (
            yaml_scalars,
            "_INTEGER",
            re.compile("[0-9]+"),
            f"schedules: [{{name: a, job: b, every: {'9' * 5_000}}}]",
            ValueError,
        ),
    ],
)
async def test_a_guard_that_is_missing_is_found(
    take: Callable[[bytes], Awaitable[list[str]]],
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    guard: str,
    stand_in: Any,
    text: str,
    raised: type[Exception],
) -> None:
    assert await take(text.encode()) == []

    monkeypatch.setattr(module, guard, stand_in)

    with pytest.raises(raised):
        await take(text.encode())


async def test_a_schedule_that_cannot_be_planned_is_found(
    take: Callable[[bytes], Awaitable[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await take(SOUND.encode()) == []

    monkeypatch.setattr(firing, "plan_fires", None)

    assert await take(SOUND.encode()) == ["'a' is not fired"]
