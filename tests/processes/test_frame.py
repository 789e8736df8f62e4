from __future__ import annotations

from pillars.ground.settings import Settings
from pillars.processes.frame import CLOSED, ENDED, LEFT, LOOPS_ENDED
from pillars.worker.worker import CUT_GRACE, END_GRACE, WRITE_GRACE

KUBERNETES_WAITS, INTERPRETER = 30.0, 1.0


def test_a_worker_has_ended_before_the_steps_that_follow() -> None:
    assert CUT_GRACE + WRITE_GRACE + END_GRACE <= ENDED < LOOPS_ENDED < LEFT < CLOSED


def test_a_stop_fits_into_the_time_that_kubernetes_gives_by_default() -> None:
    assert Settings().drain_timeout + CLOSED + INTERPRETER < KUBERNETES_WAITS
