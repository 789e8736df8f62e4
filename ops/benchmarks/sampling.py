"""A worker process that tells where its CPU time goes: `python -m ops.benchmarks.sampling FILE`.

Every few milliseconds of CPU time a signal looks at the stack and counts one for the phase it finds
there. That costs next to nothing and distorts nothing, as a profiler that follows each call would.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pillars.cli import main

if TYPE_CHECKING:
    from types import FrameType

_EVERY = 0.001
# By the innermost function of these on the stack; the driver's time is told from ours.
_PHASES = {
    "Claims.claim": "claim",
    "Claims.next_due": "claim",
    "Claimer._step": "claim",
    "Claims.finish": "finish",
    "Finisher._step": "finish",
    "Finisher.put": "finish",
    "Attempts.run": "attempt",
    "Worker._slot": "slot",
}
_LOOP = "event loop, and the rest"
_EVENTS = "events: metrics and logs"
NAMES = (
    "claim",
    "claim: driver",
    "slot",
    "attempt",
    "finish",
    "finish: driver",
    _EVENTS,
    _LOOP,
)


class Sampler:
    """Counts samples by phase, from the first one on that has to do with jobs."""

    def __init__(self) -> None:
        """Have seen none."""
        self.counts: Counter[str] = Counter()

    def __call__(self, _: int, frame: FrameType | None) -> None:
        """Take a sample."""
        phase = _phase(frame)
        # Few jobs take few samples, of which none need meet a handler.
        if self.counts or phase not in {_LOOP, _EVENTS}:
            self.counts[phase] += 1


def _phase(frame: FrameType | None) -> str:
    driver = ""
    while frame is not None:
        code = frame.f_code
        if code.co_qualname in _PHASES:
            return _PHASES[code.co_qualname] + driver
        if "/pillars/telemetry/" in code.co_filename:
            return _EVENTS
        if "/psycopg/" in code.co_filename:
            driver = ": driver"
        frame = frame.f_back
    return _LOOP


if __name__ == "__main__":
    sampler = Sampler()
    signal.signal(signal.SIGPROF, sampler)
    signal.setitimer(signal.ITIMER_PROF, _EVERY, _EVERY)
    try:
        code = main(["worker"])
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        Path(sys.argv[1]).write_text(json.dumps(sampler.counts))
    sys.exit(code)
