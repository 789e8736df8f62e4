from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Shell

HERD = "schedules:\n" + "".join(
    f'  - {{name: s{n}, cron: "0 6 * * *", timezone: Europe/Berlin, job: noop}}\n'
    for n in range(20)
)


def test_a_day_is_drawn_hour_by_hour_with_its_busiest_minutes_and_advice(shell: Shell) -> None:
    shell.write(HERD)

    lines = shell.says(
        "schedules", "spread", "--date", "2026-11-25", "--timezone", "Europe/Berlin"
    ).splitlines()

    assert lines[0].split() == [":00", ":10", ":20", ":30", ":40", ":50"]
    assert [line.strip() for line in lines[1:25]][6:8] == ["06:00 @", "07:00"]
    assert "20 schedules, 20 starts; a minute: 0.0 in the mean, 20 at most" in lines
    assert "Wed 06:00      20         20  s0, s1, s10, s11, s12" in lines
    assert "`jitter: 10m`" in lines[-1]


def test_what_fires_all_the_time_is_the_ground_from_which_a_herd_stands_out(shell: Shell) -> None:
    steady = "  - {name: steady, every: 1s, job: noop}\n"
    herd = "".join(f'  - {{name: h{n}, cron: "0 6 * * *", job: noop}}\n' for n in range(900))
    words = ("schedules", "spread", "--date", "2026-11-25")

    shell.write(f"schedules:\n{steady}")
    alone = shell.says(*words).splitlines()
    shell.write(f"schedules:\n{steady}{herd}")
    both = shell.says(*words).splitlines()

    assert set(alone[1][6:]) == {"."}
    assert "starts a minute: . 60+" in alone
    assert both[7][6:8] == "@."
    assert both[8] == alone[8]


def test_a_day_of_25_hours_has_25_rows(shell: Shell) -> None:
    shell.write(HERD)
    words = ("schedules", "spread", "--date", "2026-10-25", "--timezone", "Europe/Berlin")

    assert len(shell.tells(*words)["counts"]) == 25 * 60


def test_the_next_24_hours_are_the_default(shell: Shell) -> None:
    shell.write(HERD)

    told = shell.tells("schedules", "spread")

    assert (len(told["counts"]), told["starts"], told["busiest"][0]["schedules"]) == (1440, 20, 20)


def test_what_is_in_force_can_be_drawn_instead_of_the_files(with_schedules: Shell) -> None:
    with_schedules.says("schedules", "pause", "report")
    with_schedules.write("schedules: []\n")

    told = with_schedules.tells("schedules", "spread", "--installed")

    assert (told["schedules"], told["starts"]) == (1, 8640)


def test_the_picture_can_be_written_as_svg(shell: Shell, tmp_path: Path) -> None:
    shell.write(HERD)

    shell.says("schedules", "spread", "--svg", str(tmp_path / "day.svg"))

    root = ET.fromstring((tmp_path / "day.svg").read_text())  # noqa: S314 - our own
    assert len(root.findall("{http://www.w3.org/2000/svg}rect")) == 1440


def test_a_picture_that_cannot_be_written_is_a_sentence(shell: Shell, tmp_path: Path) -> None:
    (full := tmp_path / "day.svg").symlink_to("/dev/full")

    assert shell.fails("schedules", "spread", "--svg", str(full)) == (
        f"{full}: cannot be written: No space left on device"
    )


def test_a_picture_in_no_directory_is_refused_before_the_work(shell: Shell, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere" / "day.svg")

    assert "there is no such directory to write it to" in shell.refuses(
        "schedules", "spread", "--svg", nowhere
    )


def test_no_schedules_make_an_empty_picture(shell: Shell) -> None:
    assert "0 schedules, 0 starts" in shell.says("schedules", "spread")


def test_wrong_days_zones_and_files_are_refused(shell: Shell) -> None:
    assert "did you mean 'Europe/Berlin'" in shell.refuses(
        "schedules", "spread", "--timezone", "Europe/Berln"
    )
    assert "not a date" in shell.refuses("schedules", "spread", "--date", "tomorrow")
    assert "1970 to 2999" in shell.refuses("schedules", "spread", "--date", "9999-12-31")
    assert ".svg" in shell.refuses("schedules", "spread", "--svg", "a.yaml")
