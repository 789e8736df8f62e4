"""A shell to type commands into, with and without a database behind it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from pillars.cli import main
from pillars.ground.settings import setting_names

if TYPE_CHECKING:
    from pathlib import Path

    from pillars.ground.settings import Secret

TWO_SCHEDULES = """\
schedules:
  - {name: tick, every: 10s, job: noop}
  - name: report
    cron: "0 9 * * mon"
    timezone: Europe/Berlin
    job: log
    args: {message: "[hello]"}
"""


class Shell:
    """Runs commands in this process, as somebody types them."""

    def __init__(self, capsys: pytest.CaptureFixture[str], directory: Path) -> None:
        self.directory = directory
        self._capsys = capsys

    def write(self, text: str, name: str = "a.yaml") -> None:
        (self.directory / name).write_text(text)

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        self._capsys.readouterr()
        try:
            code = main(words)
        except SystemExit as stop:
            code = int(str(stop.code))
        out, err = self._capsys.readouterr()
        return code, out, err

    def says(self, *words: str) -> str:
        """What a command prints that must succeed, and complain of nothing."""
        code, out, err = self.run(*words)
        assert (code, err) == (0, "")
        return re.sub(r" +\n", "\n", out)

    def tells(self, *words: str) -> Any:
        """The same, read as JSON."""
        return json.loads(self.says(*words, "--json"))

    def fails(self, *words: str) -> str:
        """The sentence of a command that must fail."""
        code, out, err = self.run(*words)
        assert (code, out) == (1, "")
        return err.removeprefix("pillars: ").rstrip("\n")

    def refuses(self, *words: str) -> str:
        """The last line said to somebody who called a command wrongly."""
        code, out, err = self.run(*words)
        assert (code, out) == (2, "")
        return err.rstrip("\n").splitlines()[-1].removeprefix("pillars: ")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No setting but the directory of schedule files; no `pillars up` near."""
    for name in setting_names():
        monkeypatch.delenv(name, raising=False)
    directory = tmp_path / "schedules"
    directory.mkdir()
    monkeypatch.setenv("PILLARS_SCHEDULES_DIR", str(directory))
    monkeypatch.setenv("PILLARS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "120")
    return directory


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], environment: Path) -> Shell:
    """A shell without a database."""
    return Shell(capsys, environment)


@pytest.fixture
def here(shell: Shell, dsn: Secret, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell with the test's database, and the name of its user alone."""
    monkeypatch.setenv("PILLARS_DATABASE_URL", dsn.reveal())
    return shell


@pytest.fixture
def with_schedules(here: Shell) -> Shell:
    here.write(TWO_SCHEDULES)
    here.says("schedules", "apply")
    return here
