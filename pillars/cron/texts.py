"""The texts of a directory of schedule files: which files count, and what they hold."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from pillars.ground.errors import PillarsError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Name, time of the last change and size of each file: what tells that something changed.
Signature = tuple[tuple[str, int, int], ...]

LARGEST_FILE: Final = 10 * 1024 * 1024
SUFFIXES: Final = (".yaml", ".yml")


@dataclass(frozen=True)
class FileFault:
    """Something to mend, or to consider, in a file; line and column count from 1."""

    file: str
    line: int | None
    column: int | None
    message: str

    def __str__(self) -> str:
        """Show it as compilers do: `billing.yaml:12:5: unknown key`."""
        place = [self.file, *(str(number) for number in (self.line, self.column) if number)]
        return f"{':'.join(place)}: {self.message}"


class ScheduleFilesError(PillarsError):
    """The schedule files cannot be used."""

    def __init__(self, faults: Iterable[FileFault]) -> None:
        """Keep every fault; the message lists one a line."""
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


class NoDirectoryError(ScheduleFilesError):
    """There is no directory of schedule files."""


def signature_of(directory: Path) -> Signature:
    """Return what tells one state of a directory's schedule files from another."""
    try:
        return tuple(
            (file.name, status.st_mtime_ns, status.st_size)
            for file in schedule_files(directory)
            for status in (file.stat(),)
        )
    except (OSError, ScheduleFilesError):
        # Missing, unreadable, or a file vanished under us: loading says what is wrong.
        return (("", 0, 0),)


def schedule_files(path: Path) -> list[Path]:
    """Return the schedule files of a directory, sorted.

    Raises:
        NoDirectoryError: there is none.
        ScheduleFilesError: it cannot be read.
    """
    try:
        found = sorted(path.iterdir())
    except FileNotFoundError:
        raise NoDirectoryError(
            [FileFault(str(path), None, None, "there is no such directory")]
        ) from None
    except OSError as error:
        message = f"the directory cannot be read: {error.strerror}"
        raise ScheduleFilesError([FileFault(str(path), None, None, message)]) from None
    return [each for each in found if each.suffix in SUFFIXES and not each.name.startswith(".")]


def text_of(file: Path) -> str:
    """Return what a file holds.

    Raises:
        ScheduleFilesError: it cannot be read, or is not text.
    """
    try:
        if not file.is_file():
            raise _unreadable(file, "is not a regular file")
        with file.open("rb") as opened:
            data = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise _unreadable(file, f"cannot be read: {error.strerror}") from None
    if len(data) > LARGEST_FILE:
        size = f"{LARGEST_FILE >> 20} MB"
        raise _unreadable(file, f"is larger than {size}; spread its schedules over several files")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        message = f"is not UTF-8: byte 0x{data[error.start]:02X}; save the file as UTF-8"
        raise _unreadable(file, message, line, column) from None


def digest_of_text(file: Path, text: str) -> bytes:
    """Return a digest of a file's name and text."""
    return hashlib.blake2b(f"{file.name}\0{text}".encode(), digest_size=16).digest()


def digest_of_texts(texts: Iterable[bytes]) -> str:
    """Return a hex digest of the digests of files, in their order."""
    # Another version may read the same texts otherwise.
    return hashlib.blake2b(
        version("pillars").encode() + b"".join(texts), digest_size=16
    ).hexdigest()


def digest_of_directory(path: Path) -> str | None:
    """Return the digest of all texts of a directory without reading what they say.

    None where a file cannot be read.
    """
    try:
        return digest_of_texts(digest_of_text(file, text_of(file)) for file in schedule_files(path))
    except ScheduleFilesError:
        return None


def _unreadable(
    file: Path, message: str, line: int | None = None, column: int | None = None
) -> ScheduleFilesError:
    return ScheduleFilesError([FileFault(str(file), line, column, message)])
