"""Directories of schedule files: all faults with their places, and sets that depend on content."""

import os
from pathlib import Path
from time import process_time

import pytest

from pillars.cron import files, yaml_marks
from pillars.cron.files import digest_of, load_directory
from pillars.cron.texts import LARGEST_FILE, ScheduleFilesError, digest_of_directory

ONE = "schedules:\n  - {name: a, every: 5m, job: x}\n"


def faults_of(directory: Path) -> list[str]:
    with pytest.raises(ScheduleFilesError) as caught:
        load_directory(directory)
    prefix = f"{directory}/"
    return [str(fault).removeprefix(prefix) for fault in caught.value.faults]


def fault_of(directory: Path, text: str) -> str:
    (directory / "a.yaml").write_text(text)
    (only,) = faults_of(directory)
    return only


def test_a_set_is_sorted_by_name_and_knows_its_origins(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(
        "# a comment\nschedules:\n  - name: z\n    every: 5m\n    job: x\n\n"
        "  - name: a\n    cron: '*/7 * * * *'\n    job: x\n"
    )
    (tmp_path / "a.yml").write_text("schedules:\n  - {name: m, at: 2026-01-01 09:00:00, job: x}\n")
    found = load_directory(tmp_path)
    assert [each.name for each in found.schedules] == ["a", "m", "z"]
    assert found.origins == {"a": "b.yaml:7", "m": "a.yml:2", "z": "b.yaml:3"}
    assert found.files == ("a.yml", "b.yaml")
    (lint,) = found.lints
    assert str(lint).startswith(f"{tmp_path}/b.yaml:8:5: cron: minute */7 starts over")


def test_all_faults_of_all_files_are_told_with_their_places(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "schedules:\n"
        "  - name: a\n"
        "    crom: '0 6 * * *'\n"
        "    job: x\n"
        "    dst: {missing: shft}\n"
        "  - {name: b, cron: '61 25 * * *', job: x}\n"
        "  - {name: good, every: 5m, job: x}\n"
    )
    (tmp_path / "b.yaml").write_text(
        "schedules:\n  - {name: c, job: x, queue: two words, every: 5m}\n"
    )
    assert [fault.split(": write")[0] for fault in faults_of(tmp_path)] == [
        "a.yaml:2:5: give one of cron, every and at",
        "a.yaml:3:5: unknown key 'crom', did you mean 'cron'?",
        "a.yaml:5:11: 'missing' cannot be 'shft', did you mean 'shift'?",
        "a.yaml:6:15: minute '61': 61 is out of range, minutes are 0 to 59",
        "a.yaml:6:15: hour '25': 25 is out of range, hours are 0 to 23",
        "b.yaml:2:23: 'queue' cannot be 'two words'",
    ]


def test_the_error_lists_all_faults_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("schedules:\n  - 1\n  - 2\n")
    with pytest.raises(ScheduleFilesError) as caught:
        load_directory(tmp_path)
    assert str(caught.value).splitlines() == [str(fault) for fault in caught.value.faults]
    assert len(caught.value.faults) == 2


def test_one_name_in_two_files_tells_both_places(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ONE)
    (tmp_path / "b.yaml").write_text(f"# moved\n{ONE}")
    assert faults_of(tmp_path) == ["b.yaml:3:6: the name 'a' is already used in a.yaml:2"]


def test_defaults_hold_where_a_schedule_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "defaults: {queue: billing, timezone: Europe/Berlin, job: y, retry: {max_attempts: 2}}\n"
        "schedules:\n"
        "  - {name: a, every: 5m}\n"
        "  - {name: b, every: 5m, queue: own, job: x, retry: {base: 1s}}\n"
    )
    (tmp_path / "b.yaml").write_text("schedules:\n  - {name: c, every: 5m, job: x}\n")
    a, b, c = load_directory(tmp_path).schedules
    assert (a.queue, a.timing.timezone, a.job) == ("billing", "Europe/Berlin", "y")
    assert (b.queue, b.job) == ("own", "x")
    assert [each.retry and each.retry.max_attempts for each in (a, b, c)] == [2, 5, None]
    assert (c.queue, c.timing.timezone) == ("default", "UTC")


def test_a_fault_in_the_defaults_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "defaults:\n"
        "  job: two words\n"
        "  dst: {mising: skip}\n"
        "  name: n\n"
        "  quue: q\n"
        "schedules:\n"
        "  - {name: a, every: 5m}\n"
        "  - {name: b, every: 5m}\n"
    )
    assert [fault.split(": write")[0] for fault in faults_of(tmp_path)] == [
        "a.yaml:2:3: 'job' cannot be 'two words'",
        "a.yaml:3:9: unknown key 'mising', did you mean 'missing'?",
        "a.yaml:4:3: 'name' cannot be a default",
        "a.yaml:5:3: unknown key 'quue', did you mean 'queue'?",
    ]


def test_the_digest_depends_on_definitions_alone(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("1", "2", "3"))
    for each in (first, second, third):
        each.mkdir()
    (first / "a.yaml").write_text(f"{ONE}  - {{name: b, every: 60, job: x}}\n")
    (second / "b.yaml").write_text(
        "# comment\nschedules:\n  - name: b\n    job: 'x'\n    every: 1m\n    queue: default\n"
    )
    (second / "c.yml").write_text(ONE)
    (third / "a.yaml").write_text(f"{ONE}  - {{name: b, every: 61, job: x}}\n")
    digests = [load_directory(each).digest for each in (first, second, third)]
    assert digests[0] == digests[1] != digests[2]
    schedules = load_directory(first).schedules
    assert digest_of(schedules[::-1]) == digests[0]


def test_an_empty_directory_is_an_empty_set(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a schedule")
    (tmp_path / ".hidden.yaml").write_text("not: read")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.yaml").write_text("not: read")
    found = load_directory(tmp_path)
    assert (found.schedules, found.files) == ((), ())


def test_a_file_without_schedules_is_fine(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")
    (tmp_path / "b.yaml").write_text("# nothing yet\nschedules:\n")
    (tmp_path / "c.yaml").write_text("\ufeff---\nschedules: []\n")
    found = load_directory(tmp_path)
    assert (found.schedules, found.files) == ((), ("a.yaml", "b.yaml", "c.yaml"))


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ScheduleFilesError, match="there is no such directory"):
        load_directory(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(ScheduleFilesError, match="cannot be read: Not a directory"):
        load_directory(tmp_path / "file")


def test_what_is_no_regular_file_is_told_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").mkdir()
    (tmp_path / "c.yaml").symlink_to(tmp_path / "nowhere")
    assert faults_of(tmp_path) == [f"{name}.yaml: is not a regular file" for name in "abc"]


def test_a_link_to_a_file_is_read_as_kubernetes_mounts_them(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "a.yaml").write_text(ONE)
    (tmp_path / "a.yaml").symlink_to(tmp_path / "..data" / "a.yaml")
    assert [each.name for each in load_directory(tmp_path).schedules] == ["a"]


@pytest.mark.parametrize(
    ("line", "place", "quoted"),
    [
        ("    cron: * * * * *", "3:11", '"* * * * *"'),
        ("    cron: */5 * * * *   # often", "3:11", '"*/5 * * * *"'),
        ("    cron: @daily", "3:11", '"@daily"'),
        ("    cron: *", "3:11", '"*"'),
    ],
)
def test_a_bare_cron_expression_wants_quotes(
    line: str, place: str, quoted: str, tmp_path: Path
) -> None:
    fault = fault_of(tmp_path, f"schedules:\n  - name: a\n{line}\n    job: x\n")
    assert fault == f"a.yaml:{place}: put quotes round it: cron: {quoted}"


def test_all_bare_cron_expressions_of_a_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "schedules:\n  - {name: a, cron: * * * * *, job: x}\n  # cron: * * *\n"
        "  - name: b\n    cron: @hourly\n"
    )
    assert faults_of(tmp_path) == [
        'a.yaml:2:21: put quotes round it: cron: "* * * * *"',
        'a.yaml:5:11: put quotes round it: cron: "@hourly"',
    ]


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("no", "no means false to YAML; put quotes round it, or write false"),
        ("On", "On means true to YAML; put quotes round it, or write true"),
        ("1:30", "YAML readers disagree about 1:30, some read 90; put quotes round it"),
        ("010", "YAML readers disagree about 010, some read 8; put quotes round it"),
        ("0x10", "YAML readers disagree about 0x10, some read 16; put quotes round it"),
        ("12e34", "YAML readers disagree about 12e34; put quotes round it"),
        ("1_000", "YAML readers disagree about 1_000, some read 1000; put quotes round it"),
        (".inf", "YAML readers disagree about .inf, some read inf; put quotes round it"),
    ],
)
@pytest.mark.parametrize("key", ["name", "queue", "args"])
def test_what_yaml_reads_otherwise_wants_quotes(
    key: str, value: str, advice: str, tmp_path: Path
) -> None:
    shown = f"{{ {key}: {value} }}" if key == "args" else value
    text = f"schedules:\n  - {key}: {shown}\n    every: 5m\n    job: x\n"
    text += "" if key == "name" else "    name: a\n"
    column = 13 if key == "args" else 5
    assert fault_of(tmp_path, text) == f"a.yaml:2:{column}: {advice}"


def test_the_same_in_quotes_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "schedules:\n  - {name: 'no', every: 5m, job: '010', args: {a: '1:30', no: 1}}\n"
    )
    (found,) = load_directory(tmp_path).schedules
    assert (found.name, found.job, found.args) == ("no", "010", {"a": "1:30", "no": 1})


def test_plain_scalars_read_as_both_versions_of_yaml_do(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "schedules:\n  - name: a\n    every: 5m\n    job: x\n    args:\n"
        "      v: [1, -2, 0, 1.5, 1.5e+3, true, False, ~, null, 2026-01-01, 1.2.3, nope, -x]\n"
    )
    (found,) = load_directory(tmp_path).schedules
    assert found.args["v"] == [
        1, -2, 0, 1.5, 1500.0, True, False, None, None, "2026-01-01", "1.2.3", "nope", "-x",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("schedules:\n\t- name: a\n", "2:1: a tab cannot indent in YAML; use blanks"),
        ("schedules:\n  - name: a\n\t\tjob: x\n", "a tab cannot indent in YAML; use blanks"),
        (f"{ONE}---\n{ONE}", "3:1: a second document (---) is not supported; use another file"),
        ("a: &x 1\n", "anchors (&) are not supported"),
        ("schedules:\n  - {name: *x}\n", "2:12: aliases (*) are not supported"),
        ("schedules: !!python/name:os.system\n", "tags are not supported"),
        ("schedules: !!set {a}\n", "tags are not supported"),
        ("<<: {a: 1}\n", "merge keys (<<) are not supported"),
        ("? [a]\n: 1\n", "a key must be text"),
        ("schedules:\n  - name: a: b\n", "2:12: is not YAML: mapping values are not allowed"),
        ("schedules: [\n", "is not YAML"),
        ("schedules: {a: 1}\n", "1:1: 'schedules' must be a list; begin each with '- '"),
        ("schedules: a\n", "'schedules' must be a list"),
        ("- name: a\n", "1:1: a file begins with 'schedules:'"),
        ("hello\n", "1:1: a file begins with 'schedules:'"),
        ("schedule: []\n", "1:1: unknown key 'schedule', did you mean 'schedules'?"),
        ("defaults: 5\n", "1:1: 'defaults' must be a mapping"),
        ("schedules:\n  - a\n", "2:5: a schedule must be a mapping"),
        ("schedules: []\nschedules: []\n", "2:1: the key 'schedules' is already given in line 1"),
        (f"{ONE}  - {{name: b, job: x, every: 1m, job: y}}\n", "3:34: the key 'job' is already"),
        ("schedules:\n  - {name: 'a\x07'}\n", "2:14: the character U+0007 is not text"),
    ],
)
def test_trouble_is_told_in_words(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert any(fault in found for found in faults_of(tmp_path))


def test_bytes_that_are_no_utf8_are_placed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("schedules:\n  - {name: Bücher}\n".encode("latin-1"))
    (tmp_path / "b.yaml").write_bytes(ONE.encode("utf-16"))
    assert faults_of(tmp_path) == [
        "a.yaml:2:13: is not UTF-8: byte 0xFC; save the file as UTF-8",
        "b.yaml:1:1: is not UTF-8: byte 0xFF; save the file as UTF-8",
    ]


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"#" * (LARGEST_FILE + 1))
    assert faults_of(tmp_path) == [
        "a.yaml: is larger than 10 MB; spread its schedules over several files"
    ]


def test_the_number_of_mappings_is_bounded_and_with_it_memory(tmp_path: Path) -> None:
    text = f"schedules: [{'{},' * (yaml_marks.MOST_COLLECTIONS + 1)}]"
    assert "holds too many mappings and lists" in fault_of(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 5_000_000,
        "a: " + "{a: " * 1_000_000,
        "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n" * 1000,
        "- a\n" * 300_000,
        "schedules:\n" + "  - {}\n" * 1_000_000,
        "schedules:\n" + "  - {name: a, every: no}\n" * 300_000,
        "schedules: [" + "yes," * 2_000_000 + "]",
        "schedules:\n  - {name: a, every: " + "9" * 5_000_000 + "s, job: x}",
        "schedules:\n  - {name: a, every: " + "9" * 5_000_000 + ", job: x}",
        "schedules:\n  - {name: a, cron: '" + "0," * 2_000_000 + "', job: x}",
        "schedules:\n  - {name: a, timezone: '" + "x" * 5_000_000 + "', job: x, every: 5m}",
        "x" * 5_000_000 + ": 1",
        "schedules:\n  - {name: a, cron: " + "* " * 1_000_000,
    ],
    ids=range(13),
)
def test_files_made_to_hurt_are_refused_in_bounded_time(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    begin = process_time()
    faults = faults_of(tmp_path)
    assert process_time() - begin < 10
    assert len(faults) <= 2 * yaml_marks.MOST_FAULTS + 2
    assert sum(map(len, faults)) < 1_000_000


def test_thousands_of_schedules_load_in_seconds(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "schedules:\n"
        + "".join(
            f"  - name: job-{number}\n    cron: 'H {number % 24} {number % 28 + 1} * *'\n"
            "    timezone: Europe/Berlin\n    job: billing.send\n    queue: billing\n"
            f"    args: {{id: {number}}}\n    jitter: 30s\n"
            for number in range(2000)
        )
    )
    begin = process_time()
    assert len(load_directory(tmp_path).schedules) == 2000
    # About 0.5 s; the bound leaves room for a slow machine.
    assert process_time() - begin < 3


def test_texts_change_with_a_comment_and_the_digest_does_not(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("schedules:\n  - {name: a, every: 1h, job: noop}\n")
    before = load_directory(tmp_path)

    file.write_text(file.read_text() + "# why\n")
    after = load_directory(tmp_path)

    assert after.digest == before.digest
    assert after.texts != before.texts


def test_the_digest_of_directory_needs_no_reading_of_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("schedules:\n  - {name: a, every: 1h, job: noop}\n")
    (tmp_path / "b.yaml").write_text("schedules: []\n")
    told = digest_of_directory(tmp_path)
    (tmp_path / "b.yaml").rename(tmp_path / "c.yaml")

    assert told != digest_of_directory(tmp_path) == load_directory(tmp_path).texts
    assert digest_of_directory(tmp_path / "nowhere") is None


def test_reading_tells_how_far_it_is(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text("schedules: []\n")
    heard: list[tuple[str, int, int]] = []

    load_directory(tmp_path, lambda *news: heard.append(news))

    assert heard == [("read", 1, 2), ("read", 2, 2)]


def test_large_directories_are_read_by_several_processes_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        lines = [f"  - {{name: s{number}-{n}, every: 1h, job: noop}}\n" for n in range(10)]
        (tmp_path / f"{number}.yaml").write_text("schedules:\n" + "".join(lines))
    alone = load_directory(tmp_path)
    monkeypatch.setattr(files, "_LARGE", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)

    assert load_directory(tmp_path) == alone


def test_faults_are_the_same_whichever_process_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.yaml").write_text(ONE)
    (tmp_path / "b.yaml").write_text("schedules:\n  - {name: b, evry: 5m, job: x}\n")
    (tmp_path / "c.yaml").write_text(ONE)
    alone = faults_of(tmp_path)
    monkeypatch.setattr(files, "_LARGE", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)

    assert faults_of(tmp_path) == alone
    assert "c.yaml:2:6: the name 'a' is already used in a.yaml:2" in alone
