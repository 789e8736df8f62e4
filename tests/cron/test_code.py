from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pillars.cron.code import CodeScheduleError, CodeSchedules, load_set
from pillars.cron.files import load_directory
from pillars.cron.texts import ScheduleFilesError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pillars.cron.files import ScheduleSet

A_YAML = "schedules:\n  - {name: f, every: 1h, job: noop}\n"


def in_code(*names: str, **keys: Any) -> ScheduleSet:
    """The schedules of an application that has these."""
    code = CodeSchedules()
    for name in names:
        code.add(name, {"every": "1h", "job": "noop", **keys}, f"jobs:{len(name)}")
    return read(code)


def read(code: CodeSchedules, *types: str, queue: str | None = None) -> ScheduleSet:
    def types_of(_: Callable[..., Any]) -> tuple[str, ...]:
        return types

    return code.read(types_of, lambda _: queue)


def handler() -> None:
    """Handle a job."""


def test_a_plain_call_schedules_any_job_type() -> None:
    code = CodeSchedules()
    code.add("b", {"every": "15m", "job": "files.cleanup"}, "jobs:7")
    code.add("a", {"cron": "0 6 * * *", "job": "noop"}, "jobs:9")

    found = read(code)

    assert [(each.name, each.job) for each in found.schedules] == [
        ("a", "noop"),
        ("b", "files.cleanup"),
    ]
    assert found.origins == {"a": "jobs:9", "b": "jobs:7"}
    assert found.code == {"a", "b"}


def test_a_decorated_handler_gives_the_job_type_its_queue_and_its_place() -> None:
    code = CodeSchedules()

    assert code.add("a", {"every": "15m"}, "jobs:7")(handler) is handler

    found = read(code, "mail", queue="post")
    (schedule,) = found.schedules
    assert (schedule.job, schedule.queue) == ("mail", "post")
    assert found.origins == {"a": "tests.cron.test_code:handler"}


def test_a_queue_that_is_given_goes_before_the_job_types() -> None:
    code = CodeSchedules()
    code.add("a", {"every": "15m", "job": "mail", "queue": "default"}, "jobs:7")

    assert read(code, queue="post").schedules[0].queue == "default"


def test_every_fault_of_a_definition_is_told_with_its_place() -> None:
    with pytest.raises(CodeScheduleError) as error:
        CodeSchedules().add("a", {"crom": "0 6 * * *", "timezone": "Europe/Berln"}, "jobs:7")

    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert lines[0] == "jobs:7: schedule 'a': crom: unknown key 'crom', did you mean 'cron'?"
    assert all(line.startswith("jobs:7: schedule 'a': ") for line in lines)


def test_a_name_is_used_once() -> None:
    code = CodeSchedules()
    code.add("a", {"every": "1h", "job": "noop"}, "jobs:7")

    with pytest.raises(CodeScheduleError, match=r"jobs:9: the name 'a' is .* used in jobs:7"):
        code.add("a", {"every": "1h", "job": "noop"}, "jobs:9")


@pytest.mark.parametrize(
    ("types", "sentence"),
    [
        ((), "handles no job type: put it next to `@app.job`, or give `job=`"),
        (("a", "b"), "handles a and b: say which with `job=`"),
    ],
)
def test_a_decorated_function_handles_one_job_type(types: tuple[str, ...], sentence: str) -> None:
    code = CodeSchedules()
    code.add("a", {"every": "1h"}, "jobs:7")(handler)

    with pytest.raises(CodeScheduleError, match=sentence):
        read(code, *types)


def test_schedules_that_were_never_given_a_job_are_all_told() -> None:
    code = CodeSchedules()
    code.add("a", {"every": "1h"}, "jobs:7")
    code.add("b", {"every": "1h"}, "jobs:8")

    with pytest.raises(CodeScheduleError) as error:
        read(code)

    assert [line.split(" has ")[0] for line in str(error.value).splitlines()] == [
        "jobs:7: schedule 'a'",
        "jobs:8: schedule 'b'",
    ]


def test_what_is_rarely_meant_is_told_for_code_as_for_files() -> None:
    code = CodeSchedules()
    code.add("a", {"cron": "0 0 13 * fri", "job": "noop"}, "jobs:7")

    (lint,) = read(code).lints
    assert str(lint).startswith("jobs:7: cron: ")


def test_files_and_code_are_one_set(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(A_YAML)

    found = load_set(tmp_path, in_code("c", "g"))

    assert [each.name for each in found.schedules] == ["c", "f", "g"]
    assert found.origins == {"c": "jobs:1", "f": "a.yaml:2", "g": "jobs:1"}
    assert (found.code, found.files) == ({"c", "g"}, ("a.yaml",))


def test_an_application_without_schedules_makes_no_other_set(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(A_YAML)

    found = load_set(tmp_path, in_code())

    assert found.digest == load_directory(tmp_path).digest == load_set(tmp_path, None).digest
    assert (found.code, load_set(tmp_path, None).code) == (frozenset(), None)


def test_a_schedule_that_moves_from_a_file_to_code_makes_another_set(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(A_YAML)
    before = load_set(tmp_path, in_code())
    (tmp_path / "a.yaml").write_text("schedules: []\n")

    after = load_set(tmp_path, in_code("f"))

    assert before.schedules == after.schedules
    assert before.digest != after.digest


def test_a_name_in_a_file_and_in_code_is_a_fault_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(A_YAML)

    with pytest.raises(ScheduleFilesError) as error:
        load_set(tmp_path, in_code("f"))

    assert str(error.value) == (
        f"{tmp_path}/a.yaml:2: the name 'f' is already used in code, in jobs:1"
    )


def test_code_needs_no_directory_but_its_absence_is_told(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"

    found = load_set(nowhere, in_code("c"))

    assert [each.name for each in found.schedules] == ["c"]
    assert [str(lint) for lint in found.lints] == [
        f"{nowhere}: there is no such directory: code alone counts"
    ]
    with pytest.raises(ScheduleFilesError):
        load_set(nowhere, in_code())


def test_a_directory_that_cannot_be_read_is_a_fault_also_beside_schedules_in_code(
    tmp_path: Path,
) -> None:
    with pytest.raises(ScheduleFilesError, match="the directory cannot be read"):
        load_set(tmp_path / ("x" * 300), in_code("c"))
