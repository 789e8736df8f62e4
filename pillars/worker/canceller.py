"""Finds out which of this worker's jobs shall be stopped.

Whoever wants a running job stopped writes that into its row and sends a notification. The worker
looks when it is notified, and every second while it runs anything: one statement on an index that
holds nothing but such jobs.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from pillars.ground.loop import Stepper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from pillars.ground.events import Emit
    from pillars.queue.attempt import Job
    from pillars.queue.claims import Claims
    from pillars.queue.states import JobId

    # A job and the number of its attempt: a request is not for a later one.
    AttemptKey = tuple[JobId, int]

LOOK_EVERY = 1.0


class Canceller:
    """Knows the requests to stop jobs that this worker holds."""

    def __init__(
        self,
        claims: Claims,
        *,
        identity: Callable[[], UUID | None],
        busy: Callable[[], bool],
        stop: Callable[[Mapping[AttemptKey, str]], None],
        emit: Emit,
    ) -> None:
        """Look over `claims`.

        Args:
            claims: the queue's side.
            identity: the id jobs are held under; None while there are none.
            busy: whether anything runs.
            stop: called with attempts that are newly to be stopped, and why; those that have not
                started ask `refusal`.
            emit: receives the failures of the loop.
        """
        self._claims = claims
        self._identity = identity
        self._busy = busy
        self._stop = stop
        self._stepper = Stepper("cancel", self._step, emit)
        self._requests: Mapping[AttemptKey, str] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        await self._stepper.run()

    def wake(self) -> None:
        """Look now: a request was announced."""
        self._stepper.wake()

    def refusal(self, job: Job) -> str | None:
        """Return why this attempt must not start, or not go on; None while it may."""
        if job.refusal is not None or not self._requests:
            return job.refusal
        return self._requests.get((job.id, job.attempt))

    async def _step(self) -> float:
        worker_id = self._identity()
        known = self._requests
        if worker_id is None or not self._busy():
            self._requests = {}
        else:
            self._requests = await self._claims.cancel_requests(worker_id)
        new = {key: reason for key, reason in self._requests.items() if key not in known}
        if new:
            self._stop(new)
        return LOOK_EVERY * random.uniform(0.9, 1.1)  # noqa: S311 - jitter is no secret
