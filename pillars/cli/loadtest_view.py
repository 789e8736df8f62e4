"""A load test while it runs: a picture in a terminal, a line for each stage elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pillars.cli.output import table
from pillars.loadtest.measurement import Stage
from pillars.loadtest.page import seconds
from pillars.loadtest.report import Done
from pillars.loadtest.watch import Look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    from pillars.loadtest.measurement import Told

_BLOCKS = " ▁▂▃▄▅▆▇█"
_LAST = 60
_HEADINGS = ("PROCESS", "SLOTS", "CPU %", "MB")
_BAR = 40


@contextmanager
def view() -> Iterator[Callable[[Told], None]]:
    """Return what a load test is to tell; all of it goes to stderr."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _Lines(console).told
        return
    picture = _Picture()
    with Live(console=console, transient=True, get_renderable=picture.drawn):
        yield picture.told


class _Lines:
    """Tells stages and deeds, each once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""

    def told(self, what: Told) -> None:
        if isinstance(what, Stage) and what.words != self._stage:
            self._stage = what.words
            self._console.print(what.words)
        if isinstance(what, Done):
            self._console.print(_deed(what))


class _Picture:
    """Shows the latest of everything."""

    def __init__(self) -> None:
        self._stage = Stage("")
        self._look: Look | None = None
        self._fires: list[float] = []
        self._deeds: list[Done] = []

    def told(self, what: Told) -> None:
        match what:
            case Stage():
                self._stage = what
            case Look():
                self._look = what
                self._fires = [*self._fires, what.fires][-_LAST:]
            case Done():
                self._deeds.append(what)

    def drawn(self) -> RenderableType:
        stage = self._stage
        parts: list[RenderableType] = [Text(stage.words)]
        if stage.total:
            parts = [Text(f"{stage.words}: {stage.done:,} of {stage.total:,}")]
            parts.append(ProgressBar(stage.total, stage.done, width=_BAR))
        elif self._look is not None:
            parts += [_figures(self._look), _trend(self._fires), Text(), _processes(self._look)]
        return Group(*parts, *(Text(_deed(done)) for done in self._deeds))


def _figures(look: Look) -> Table:
    grid = Table.grid(padding=(0, 2))
    late = [look.p50, look.p99, look.worst]
    for name, value in (
        ("second", f"{look.at:,.0f}"),
        ("fires a second", f"{look.fires:,.0f}"),
        (
            "lateness p50, p99, max",
            ", ".join("-" if each is None else seconds(each) for each in late),
        ),
        ("schedules overdue", f"{look.overdue:,}"),
        ("jobs due", f"{look.depth:,}"),
        ("database CPU", "-" if look.database is None else f"{look.database:.0%} of a core"),
    ):
        grid.add_row(name, value)
    return grid


def _trend(fires: list[float]) -> Text:
    most = max([*fires, 1.0])
    return Text("".join(_BLOCKS[round(each / most * (len(_BLOCKS) - 1))] for each in fires))


def _processes(look: Look) -> Table:
    names = sorted({*look.shares, *look.cpu})
    return table(
        _HEADINGS,
        [
            (
                name,
                look.shares.get(name, ""),
                f"{100 * look.cpu.get(name, 0.0):,.0f}",
                f"{look.resident.get(name, 0) / 1e6:,.0f}",
            )
            for name in names
        ],
    )


def _deed(done: Done) -> str:
    return f"{done.at:,.0f} s: {done.deed} {done.name}"
