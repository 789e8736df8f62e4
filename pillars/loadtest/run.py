"""One load test from start to report; and everything away again, however it ends."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from pillars.db.database import Database
from pillars.ground.clock import SystemClock
from pillars.ground.events import ChildEnded, nobody
from pillars.loadtest.crew import Crew, CrewError
from pillars.loadtest.filling import clear
from pillars.loadtest.ground import check_room, ground
from pillars.loadtest.measurement import Measurement, Stage
from pillars.loadtest.mixes import load_of
from pillars.loadtest.orders import check_ticks
from pillars.processes.children import Supervisor
from pillars.processes.frame import unless_set

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pillars.ground.events import Event
    from pillars.ground.settings import Secret
    from pillars.loadtest.measurement import Told
    from pillars.loadtest.orders import Order
    from pillars.loadtest.report import Report


async def run_loadtest(
    order: Order, named: Secret | None, *, in_place: bool, tell: Callable[[Told], None]
) -> Report | None:
    """Run a load test; None when it was interrupted. Either way nothing of it is left.

    Args:
        order: what is to be done.
        named: the database that lends its server; None for an embedded one.
        in_place: use that very database.
        tell: is given stages, looks and what was done.

    Raises:
        UsageError: the order demands more ticks than can be kept.
        PillarsError: it could not be run, or a process of it failed.
    """
    load = load_of(order.mix, order.schedules, order.seed)
    rate = load.rate()
    check_ticks(rate, order.seconds)
    if named is None:
        check_room(order.schedules, rate * order.seconds)
    queue = f"loadtest-{uuid4().hex[:8]}"
    supervisor = _supervisor()
    tell(Stage("starting the database"))
    async with ground(named, in_place=in_place) as dsn, _opened(dsn, queue, in_place) as database:
        with tempfile.TemporaryDirectory(prefix="pillars-loadtest-") as directory:
            crew = Crew(supervisor, order, dsn, Path(directory), queue)
            measurement = Measurement(order, load, queue, database, crew=crew, tell=tell)
            try:
                await unless_set(supervisor.asked, measurement.run())
            finally:
                tell(Stage("cleaning up"))
                await crew.stop()
            if words := "\n".join(crew.last_words()):
                raise CrewError(words)
    return measurement.report


def _supervisor() -> Supervisor:
    """Return one that gives the run up as soon as one of its processes ends by itself."""

    def emit(event: Event) -> None:
        if isinstance(event, ChildEnded):
            supervisor.ask_to_stop(f"{event.name} ended")

    supervisor = Supervisor(
        "loadtest", "pillars", pause=lambda *_: 0.0, emit=emit, clock=SystemClock()
    )
    supervisor.handle_signals()
    hang_up = signal.SIGHUP
    # Ignored under `nohup`, which says that the run is to outlive its terminal.
    if signal.getsignal(hang_up) is not signal.SIG_IGN:
        asyncio.get_running_loop().add_signal_handler(hang_up, supervisor.ask_to_stop, hang_up.name)
    return supervisor


@asynccontextmanager
async def _opened(dsn: Secret, queue: str, in_place: bool) -> AsyncIterator[Database]:
    database = Database(dsn, "pillars loadtest", nobody)
    try:
        yield database
    finally:
        try:
            if in_place:
                await clear(database.link("clear"), queue)
        finally:
            await database.close()
