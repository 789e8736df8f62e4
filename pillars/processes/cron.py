"""A cron process: ticker, sweep and reconciler around a share of the ring.

An application that cannot be imported is like faulty files: it is told, nothing is applied, and the
schedules in the database fire on. To end the process would make them late for a fault elsewhere.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pillars.cluster.agent import HAND_OVER_LIMIT
from pillars.cron.book import count_owned
from pillars.cron.reconciler import Reconciler
from pillars.cron.ticker import OwnTicker, SweepTicker
from pillars.db.connection import PLANNED_ONCE
from pillars.db.notify import RING_CHANNEL
from pillars.ground.events import SchedulesRefused
from pillars.loading import AppLoadError, load_app
from pillars.processes.frame import ENDED, Frame

if TYPE_CHECKING:
    from pillars.cron.files import ScheduleSet
    from pillars.ground.settings import Secret, Settings

# The schedules owned are counted one by one, which takes 0.3 s of a million: never more than a
# hundredth of the time.
# And not at once: all that start together would do it while they fire their first ticks.
_COUNT_AFTER, _COUNT_EVERY, _COUNT_SHARE = 5.0, 30.0, 100.0
_HAND_OVER_LOOK = 0.1


async def run_cron(settings: Settings, dsn: Secret) -> None:
    """Run a cron until it is asked to stop.

    Raises:
        PillarsError: it cannot start.
    """
    code, faults = _load_code(settings.app)
    frame = Frame("cron", settings, dsn)
    async with frame.running():
        if frame.stopping:
            return
        frame.health.expect_cron(settings.lease, frame.database.link("health"))
        async with frame.endpoints() as url:
            await frame.join(url)
            _start_loops(frame)
            if faults:
                frame.events(SchedulesRefused(settings.app or "", faults))
            else:
                _keep_equal(frame, code)
            await frame.until_stopped()
            await frame.bounded("hand-over", _hand_over(frame), ENDED)
            await frame.end_loops()


def _load_code(app: str | None) -> tuple[ScheduleSet | None, tuple[str, ...]]:
    """Return the schedules of the application, or what is wrong with it."""
    if app is None:
        return None, ()
    try:
        return load_app(app).schedules(), ()
    except AppLoadError as error:
        return None, tuple(str(error).splitlines())


def _keep_equal(frame: Frame, code: ScheduleSet | None) -> None:
    settings, membership = frame.settings, frame.membership
    reconciler = Reconciler(
        frame.database.link("files"),
        settings.schedules_dir,
        code,
        revision=settings.schedules_revision,
        applied_by=frame.name,
        member_id=lambda: membership.member_id,
        lease=settings.lease,
        holds=membership.holds,
        emit=frame.events,
    )
    frame.loop("files", reconciler.step)


def _start_loops(frame: Frame) -> None:
    settings, membership, database = frame.settings, frame.membership, frame.database
    heart = frame.heart
    if heart is not None:
        frame.listen(RING_CHANNEL, lambda _: heart.wake())
    own = OwnTicker(
        database.link("ticker", PLANNED_ONCE),
        slots=lambda: membership.slots,
        progressed=membership.progressed,
        lookahead=settings.lookahead,
        emit=frame.events,
        clock=frame.clock,
    )
    sweep = SweepTicker(
        database.link("sweep", PLANNED_ONCE),
        lookahead=settings.lookahead,
        emit=frame.events,
        clock=frame.clock,
        busy=lambda: own.behind,
    )
    count_link = database.link("count")
    count_from = frame.clock.monotonic() + _COUNT_AFTER

    async def count() -> float:
        began = frame.clock.monotonic()
        if began < count_from:
            return count_from - began
        frame.metrics.owned_schedules(await count_owned(count_link, membership.slots))
        return max(_COUNT_EVERY, _COUNT_SHARE * (frame.clock.monotonic() - began))

    frame.loop("ticker", own.step)
    frame.loop("sweep", sweep.step)
    frame.loop("count", count)


async def _hand_over(frame: Frame) -> None:
    """Give the slots away, and go on firing them until the others have taken over."""
    heart, membership = frame.heart, frame.membership
    if heart is None:
        return
    version = await heart.call(membership.begin_leave())
    if not version:
        return
    deadline = frame.clock.monotonic() + HAND_OVER_LIMIT
    while frame.clock.monotonic() < deadline and not frame.hurry.is_set():
        if await heart.call(membership.handed_over(version)):
            return
        await asyncio.sleep(_HAND_OVER_LOOK)
