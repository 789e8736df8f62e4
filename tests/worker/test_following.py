from __future__ import annotations

import io
import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pillars.ground.clock import SystemClock
from pillars.ground.events import Events, JobFinished, JobsFinished, TicksFired
from pillars.telemetry.logs import LogListener, configure_logging
from tests.cron.ticking import own, schedule, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pillars.ground.events import Event
    from tests.worker.conftest import Bench


async def test_a_tick_is_followed_by_its_ids_from_the_crons_line_to_the_workers(
    bench: Bench,
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    bench.app.job("mail.digest")(lambda: None)
    daily = schedule("digest", job="mail.digest", every="1h")
    await write(bench.database, bench.sql, daily, cursor=now)

    await own(bench.database, bench.events, bench.clock).step()
    async with bench.working():
        await bench.events.until(JobFinished)

    (enqueued,) = said_of(bench.events.of(TicksFired), "cron")
    (ended,) = said_of(bench.events.of(JobsFinished), "worker")
    assert (enqueued["role"], enqueued["event"]) == ("cron", "TickFired")
    assert (ended["role"], ended["event"]) == ("worker", "JobFinished")
    assert enqueued["outcome"] == "enqueued"
    assert ended["outcome"] == "succeeded"
    ids = ("schedule", "fire_at", "job_id", "queue")
    assert [enqueued[key] for key in ids] == ["digest", now.isoformat(), 1, "default"]
    assert [ended[key] for key in ids] == [enqueued[key] for key in ids]


def said_of(happened: Sequence[Event], role: str) -> list[dict[str, Any]]:
    """What a process of this role writes of events, read as JSON."""
    root, stream, events = logging.getLogger(), io.StringIO(), Events()
    handlers, level = root.handlers[:], root.level
    LogListener(events, SystemClock())
    configure_logging("json", role, "alpha", stream=stream)
    try:
        for event in happened:
            events(event)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(capture=False)
    return [json.loads(line) for line in stream.getvalue().splitlines()]
