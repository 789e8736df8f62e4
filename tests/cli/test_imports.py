from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.cli.conftest import Shell

IMPORT = ("schedules", "import")


def test_a_crontab_is_imported_into_a_file_that_check_finds_right(
    shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "crontab").write_text("30 2 * * * /bin/backup\n")
    words = (*IMPORT, "crontab", str(tmp_path / "crontab"), "--timezone", "Europe/Berlin")
    output = shell.directory / "cron.yaml"

    code, out, err = shell.run(*words, "--job", "noop", "--strict", "--output", str(output))

    assert (code, out) == (0, "")
    assert err == f"schedules: 1 of 1, notes: 0; written to {output}\n"
    assert shell.says("schedules", "check") == "all right; schedules: 1, files: 1\n"
    assert shell.fails(*words, "--output", str(output)).endswith("--force overwrites it")
    assert shell.run(*words, "--output", str(output), "--force")[0] == 0


def test_what_is_not_translated_is_said_and_fails_when_strict(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "crontab").write_text("@reboot /bin/x\n@daily /bin/y\n")
    words = (*IMPORT, "crontab", str(tmp_path / "crontab"), "--timezone", "UTC")

    code, out, err = shell.run(*words)

    assert code == 0
    assert "# NOT TRANSLATED: entry-1 (line 1)" in out
    assert err.splitlines()[1:] == [
        "schedules: 1 of 2, notes: 1",
        "your application must provide the job types: shell",
    ]
    assert shell.run(*words, "--strict")[0] == 1


def test_manifests_are_imported(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "kind: CronJob\nmetadata: {name: c}\nspec: {schedule: '@daily', jobTemplate: {spec: "
        "{template: {spec: {containers: [{image: i}]}}}}}\n"
    )

    _, out, _ = shell.run(*IMPORT, "kubernetes", str(tmp_path / "a.yaml"))

    assert '  - name: c\n    cron: "@daily"\n    job: container\n' in out


def test_a_beat_schedule_is_read_and_only_run_when_asked(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beat_settings.py").write_text(
        "every = max(60, 30)\nbeat_schedule = {'a': {'task': 't', 'schedule': every}}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    source = "beat_settings:beat_schedule"

    _, unread, said = shell.run(*IMPORT, "celery", source)
    _, executed, _ = shell.run(*IMPORT, "celery", source, "--execute")

    assert "schedules: []" in unread
    assert "max(60, 30)" in unread
    assert "--execute" in said
    assert '    every: "1m"\n' in executed


def test_files_that_cannot_be_read_are_named(shell: Shell, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(b"\xff")

    assert shell.fails(*IMPORT, "crontab", str(tmp_path / "no")).endswith(
        "no: cannot be read: No such file or directory"
    )
    assert shell.fails(*IMPORT, "crontab", str(bad)).endswith("is not UTF-8; save it as UTF-8")
    assert "no such module" in shell.fails(*IMPORT, "celery", "no.such.module")
