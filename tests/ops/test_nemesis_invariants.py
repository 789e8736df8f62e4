"""Each check of the nemesis passes a run that went well, and fails the same one doctored."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ops.chaos.clocks import Clocks
from ops.chaos.evidence import Deed, Evidence, Job, Line, Pin, Ring, RingChange, Run
from ops.chaos.invariants import judge
from ops.chaos.invariants.health import (
    MOST_GROWTH,
    SESSIONS_OF_A_PROCESS,
    nothing_pinned,
    nothing_unexpected,
)
from ops.chaos.invariants.jobs import each_job_ends_once
from ops.chaos.invariants.members import nobody_expelled_wrongly, ring_is_whole
from ops.chaos.invariants.ticks import each_tick_once, no_tick_lost, nothing_early
from ops.chaos.load import PAST, PAST_EVERY, Load
from ops.chaos.provoked import provoked

if TYPE_CHECKING:
    from pathlib import Path

EPOCH = 1_800_000_000.0
LEASE = 5.0
TICKS = range(1, 11)


def job(number: int, at: float, **fields: object) -> Job:
    """A job that ran half a second after its time."""
    due = EPOCH + at
    row = Job(
        id=number,
        type="nemesis.step",
        schedule=None,
        fire_at=None,
        fire_until=None,
        run_at=due,
        created_at=due - LEASE,
        started_at=due + 0.5,
        finished_at=due + 0.6,
        state="succeeded",
        attempt=1,
        answered=1,
    )
    return replace(row, **fields)  # type: ignore[arg-type]


def run(number: int, at: float, attempt: int = 1) -> Run:
    """What a handler left of a job, half a second after its time."""
    return Run(number, attempt, 1, EPOCH + at + 0.51, EPOCH + at + 0.59)


def line(
    event: str, at: float, level: str = "warning", process: str = "cron-1.1", **fields: object
) -> Line:
    return Line(process, EPOCH + at, level, event, event, fields)


def expelled(at: float, member: str = "dead") -> Line:
    fields = {"member_id": member, "member_name": "cron-1"}
    return line("MemberExpelled", at, process="cron-2.1", **fields)


def lost(at: float) -> Line:
    return line("MembershipLost", at, member_id="dead", member_name="cron-1")


JOINED = line("MemberJoined", 0, "info", member_id="dead")


def every_tick() -> list[Job]:
    return [
        job(tick, tick, schedule="one", fire_at=EPOCH + tick, edition=1 if tick < 6 else 2)
        for tick in TICKS
    ]


def backfilled(number: int) -> Job:
    at = -PAST_EVERY * number
    return job(40 + number, at, schedule=PAST, fire_at=EPOCH + at, created_at=EPOCH)


def memory(grown: float) -> dict[str, list[tuple[float, int]]]:
    """A process of 100 MB that grew to so many times that."""
    return {
        "cron-2.1": [
            (EPOCH + at, int(100 * 2**20 * (1 + (grown - 1) * at / 300)))
            for at in range(0, 301, 10)
        ]
    }


GOOD = Evidence(
    lease=LEASE,
    until=EPOCH + 10.5,
    loads=[Load("one", 1), Load(PAST, PAST_EVERY)],
    created={"one": EPOCH + 0.5, PAST: EPOCH + 0.5},
    created_at_rest={"one": EPOCH + 0.5, PAST: EPOCH + 0.5},
    jobs=[
        *every_tick(),
        job(20, 3, unique_key="u", created_at=EPOCH + 1),
        job(21, 6, unique_key="u", created_at=EPOCH + 4),
        job(30, 3, concurrency_key="k", concurrency_limit=1),
        job(31, 4, concurrency_key="k", concurrency_limit=1),
        backfilled(1),
        backfilled(2),
    ],
    runs=[run(number, number) for number in TICKS]
    + [run(20, 3), run(21, 6), run(30, 3), run(31, 4)]
    + [run(40 + number, -PAST_EVERY * number) for number in (1, 2)],
    ring=Ring(("a",) * 2048 + ("b",) * 2048, frozenset("ab")),
    ring_log=[
        RingChange(1, "join", "cron-1", 4096, 1, EPOCH),
        RingChange(2, "join", "cron-2", 2048, 2, EPOCH),
    ],
    lines=[JOINED, expelled(8)],
    deeds=[Deed("kill-cron", EPOCH + 2, EPOCH + 4, ("cron-1.1",))],
    acknowledged=dict.fromkeys((20, 21, 30, 31), EPOCH),
    paused=[],
    backfilled=[(PAST, EPOCH - 2 * PAST_EVERY, EPOCH, EPOCH + 1)],
    edition=2,
    in_force=frozenset({2}),
    pins=[Pin(EPOCH + 9, "pillars cron-1", 0.1, "SELECT")],
    sessions=[(EPOCH, 20)],
    memory=memory(1.2),
    rows={"members": 2},
    clocks={},
    processes=2,
    exits={"cron-2.1": 0},
)


def without(number: int) -> list[Job]:
    return [each for each in GOOD.jobs if each.id != number]


def runs_without(number: int) -> list[Run]:
    return [each for each in GOOD.runs if each.job_id != number]


def changed(number: int, **fields: object) -> list[Job]:
    return [
        replace(each, **fields) if each.id == number else each  # type: ignore[arg-type]
        for each in GOOD.jobs
    ]


def test_a_run_that_went_well_breaks_nothing() -> None:
    verdicts = judge(GOOD)

    assert [verdict.violations for verdict in verdicts] == [[]] * 8
    assert all(verdict.checked for verdict in verdicts)


@pytest.mark.parametrize(
    ("check", "doctored"),
    [
        pytest.param(
            each_tick_once,
            {"jobs": [*GOOD.jobs, job(99, 3, schedule="one", fire_at=EPOCH + 3)]},
            id="a tick with two jobs",
        ),
        pytest.param(
            each_tick_once,
            {"jobs": [*GOOD.jobs, job(99, 3.5, schedule="one", fire_at=EPOCH + 3.5)]},
            id="a tick that the schedule does not have",
        ),
        pytest.param(no_tick_lost, {"jobs": without(5)}, id="a tick in the middle missing"),
        pytest.param(no_tick_lost, {"jobs": without(10)}, id="the last tick missing"),
        pytest.param(no_tick_lost, {"jobs": without(1)}, id="the first tick missing"),
        pytest.param(no_tick_lost, {"jobs": changed(5, state="missed")}, id="a tick given up"),
        pytest.param(no_tick_lost, {"jobs": changed(5, state="cancelled")}, id="a tick cancelled"),
        pytest.param(
            no_tick_lost,
            {"created_at_rest": {**GOOD.created, "one": EPOCH + 4.5}},
            id="a schedule made anew",
        ),
        pytest.param(no_tick_lost, {"created": {}}, id="a schedule that was never applied"),
        pytest.param(no_tick_lost, {"jobs": without(41)}, id="a backfilled tick missing"),
        pytest.param(no_tick_lost, {"in_force": frozenset({1})}, id="older files in force"),
        pytest.param(
            no_tick_lost, {"jobs": changed(7, edition=1)}, id="older files in force for a moment"
        ),
        pytest.param(
            nothing_early,
            {"jobs": changed(5, started_at=EPOCH + 4.9)},
            id="a job claimed before its time",
        ),
        pytest.param(
            nothing_early,
            {"runs": [*GOOD.runs, Run(5, 1, 1, EPOCH + 4.9, None)]},
            id="a handler begun before the tick",
        ),
        pytest.param(
            nothing_early,
            {"paused": [("one", EPOCH + 4.5, EPOCH + 5.5)]},
            id="a schedule that fired while it was paused",
        ),
        pytest.param(
            ring_is_whole,
            {"ring": Ring((None, *GOOD.ring.owners[1:]), GOOD.ring.crons)},
            id="a slot without an owner",
        ),
        pytest.param(
            ring_is_whole,
            {"ring": Ring(("a",) * 2046 + ("b",) * 2050, GOOD.ring.crons)},
            id="unequal shares",
        ),
        pytest.param(
            ring_is_whole,
            {"ring": Ring(GOOD.ring.owners, frozenset("abc"))},
            id="a cron without a share",
        ),
        pytest.param(
            ring_is_whole,
            {"ring_log": [RingChange(3, "leave", "cron-3", 2049, 2, EPOCH)]},
            id="more slots moved than needed",
        ),
        pytest.param(
            ring_is_whole,
            {
                "ring_log": [
                    RingChange(2, "join", "cron-2", 2048, 2, EPOCH),
                    RingChange(3, "expel", "cron-1", 2049, 1, EPOCH),
                ]
            },
            id="more slots moved than the expelled one had",
        ),
        pytest.param(nothing_unexpected, {"unsettled": ["all are members"]}, id="no rest"),
        pytest.param(nobody_expelled_wrongly, {"deeds": []}, id="expelled for nothing"),
        pytest.param(
            nobody_expelled_wrongly,
            {"deeds": [Deed("db-down", EPOCH + 2, EPOCH + 8)]},
            id="expelled for what the database did",
        ),
        pytest.param(
            nobody_expelled_wrongly,
            {"deeds": [Deed("stop-short", EPOCH + 7, EPOCH + 9, ("cron-1.1",))]},
            id="expelled before the lease was over",
        ),
        pytest.param(
            each_job_ends_once, {"jobs": without(20)}, id="an acknowledged job that is gone"
        ),
        pytest.param(
            each_job_ends_once,
            {"jobs": changed(20, state="running", finished_at=None)},
            id="a job that did not end",
        ),
        pytest.param(each_job_ends_once, {"jobs": changed(20, state="dead")}, id="a job given up"),
        pytest.param(
            each_job_ends_once,
            {"runs": runs_without(20)},
            id="a success that never ran",
        ),
        pytest.param(
            each_job_ends_once,
            {"jobs": changed(20, attempt=2), "runs": [*GOOD.runs, run(20, 5, attempt=2)]},
            id="the result of an attempt that was taken away",
        ),
        pytest.param(
            each_job_ends_once,
            {"runs": [*GOOD.runs, run(20, 4)]},
            id="an attempt that was made twice",
        ),
        pytest.param(
            each_job_ends_once,
            {"jobs": changed(20, state="cancelled"), "runs": [*GOOD.runs, run(20, 4)]},
            id="an attempt of a cancelled job that was made twice",
        ),
        pytest.param(
            each_job_ends_once,
            {
                "jobs": changed(20, attempt=2, answered=2),
                "runs": [*GOOD.runs, run(20, 5, attempt=2)],
            },
            id="a job that was run again though no attempt failed",
        ),
        pytest.param(
            each_job_ends_once,
            {
                "jobs": changed(20, attempt=2, answered=2, rescues=1),
                "runs": [*GOOD.runs, run(20, 5, attempt=2)],
            },
            id="a job that was rescued though no worker was lost",
        ),
        pytest.param(
            each_job_ends_once,
            {"jobs": changed(21, created_at=EPOCH + 2)},
            id="a unique key held twice",
        ),
        pytest.param(
            each_job_ends_once,
            {"runs": [run(31, 3) if each.job_id == 31 else each for each in GOOD.runs]},
            id="a concurrency limit exceeded",
        ),
        pytest.param(
            nothing_pinned,
            {"pins": [Pin(EPOCH + 9, "pillars cron-1", 6.0, "SELECT")]},
            id="a long pin",
        ),
        pytest.param(
            nothing_unexpected,
            {"lines": [line("ScheduleBroken", 3, "error")]},
            id="an error in a log",
        ),
        pytest.param(
            nothing_unexpected, {"lines": [line("LoopFailed", 30)]}, id="a failure without a fault"
        ),
        pytest.param(
            nothing_unexpected,
            {"lines": [Line("cron-1.1", 0.0, "raw", None, "Traceback")]},
            id="a line that is no log line",
        ),
        pytest.param(
            nothing_unexpected,
            {"lines": [Line("cron-1.1", 0.0, "cut off", None, '{"ts"')] * 2},
            id="lines that cannot be read",
        ),
        pytest.param(nothing_unexpected, {"exits": {"cron-2.1": 1}}, id="a bad exit code"),
        pytest.param(
            nothing_unexpected,
            {"sessions": [(EPOCH, 2 * SESSIONS_OF_A_PROCESS + 1)]},
            id="sessions that pile up",
        ),
        pytest.param(nothing_unexpected, {"rows": {"members": 3}}, id="members that pile up"),
        pytest.param(
            nothing_unexpected, {"rows": {"lost_workers": 1}}, id="lost workers that pile up"
        ),
        pytest.param(
            nothing_unexpected, {"rows": {"withdrawn_ticks": 99}}, id="withdrawn ticks that pile up"
        ),
        pytest.param(
            nothing_unexpected, {"rows": {"schedule_sets": 9}}, id="sets of files that pile up"
        ),
        pytest.param(
            nothing_unexpected, {"rows": {"ring_log": 99}}, id="changes of the ring that pile up"
        ),
        pytest.param(
            nothing_unexpected, {"memory": memory(2 * MOST_GROWTH)}, id="memory that grows"
        ),
    ],
)
def test_a_doctored_run_is_found_out(check: object, doctored: dict[str, object]) -> None:
    verdict = check(replace(GOOD, **doctored))  # type: ignore[operator,arg-type]

    assert len(verdict.violations) >= 1


def in_turns(*gone: int, deeds: tuple[Deed, ...] = ()) -> Evidence:
    """A run in which two schedules are paused in turns, without some ticks of the first one."""
    turns = [("one", 0.5, 1.5), ("two", 2.5, 4.5), ("one", 5.5, 6.5)]
    loads = [Load(name, 1, edited=True) for name in ("one", "two")]
    jobs = [
        job(10 * number + tick, tick, schedule=load.name, fire_at=EPOCH + tick)
        for number, load in enumerate(loads)
        for tick in range(1, 11)
        if load.name == "two" or tick not in gone
    ]
    paused = [(name, EPOCH + since, EPOCH + until) for name, since, until in turns]
    return replace(
        GOOD, loads=loads, jobs=jobs, deeds=deeds, paused=paused, edition=0, in_force=frozenset({0})
    )


@pytest.mark.parametrize(
    ("gone", "good"), [((), True), ((1, 2, 5, 6), True), ((4,), False), ((9, 10), False)]
)
def test_a_schedule_that_was_resumed_fires_until_its_next_pause(
    gone: tuple[int, ...], good: bool
) -> None:
    doctored = replace(in_turns(*gone), backfilled=[])

    assert (not no_tick_lost(doctored).violations) == good


def test_an_outage_may_keep_a_tick_from_being_written_before_the_next_pause() -> None:
    stall = Deed("db-stall", EPOCH + 2, EPOCH + 3)
    doctored = replace(in_turns(4, deeds=(stall,)), backfilled=[])

    assert not no_tick_lost(doctored).violations


def exclusive(*states: str, overlap: str = "skip", lasts: float = 1.5) -> Evidence:
    """A run of a schedule that does not overlap, its ticks in these states."""
    jobs = [
        job(
            *(tick, tick),
            schedule="alone",
            fire_at=EPOCH + tick,
            created_at=EPOCH + tick,
            finished_at=EPOCH + tick + (lasts if state == "succeeded" else 0),
            started_at=EPOCH + tick if state in {"succeeded", "cancelled"} else None,
            state=state,
        )
        for tick, state in enumerate(states, 1)
    ]
    loads = [Load("alone", 1, overlap=overlap)]
    made = {"alone": EPOCH + 0.5}
    return replace(
        GOOD,
        loads=loads,
        created=made,
        created_at_rest=made,
        jobs=jobs,
        until=EPOCH + len(states) + 0.5,
        backfilled=[],
        edition=0,
        in_force=frozenset({0}),
    )


@pytest.mark.parametrize(
    ("evidence", "good"),
    [
        pytest.param(exclusive("succeeded", "skipped", "succeeded"), True, id="one was at work"),
        pytest.param(exclusive("succeeded", "succeeded", "skipped"), True, id="the last one was"),
        pytest.param(
            exclusive("succeeded", "skipped", "skipped", "skipped", lasts=0.5),
            False,
            id="nothing was at work any more",
        ),
        pytest.param(exclusive("skipped", "succeeded"), False, id="nothing was at work yet"),
        pytest.param(exclusive(*["skipped"] * 6), False, id="nothing ever was"),
        pytest.param(
            exclusive(*["cancelled"] * 6, overlap="cancel_other"), True, id="each cancels the last"
        ),
        pytest.param(exclusive(*["cancelled"] * 6), False, id="none is to cancel another"),
    ],
)
def test_a_tick_is_skipped_only_for_one_that_is_at_work(evidence: Evidence, good: bool) -> None:
    assert (not no_tick_lost(evidence).violations) == good


def again(at: float, rescues: int = 1, **more: object) -> Evidence:
    """A run in which a worker is killed in a job, which begins anew at that time."""
    worker = {"process": "worker-1.1", "member_id": "w", "member_role": "worker"}
    lines = [
        line("MemberJoined", 0, "info", **worker),
        line("JobFinished", 1, "info", process="worker-1.1", job_id=1, attempt=1, outcome="fine"),
        line("MemberExpelled", 8, member_id="w", member_name="worker-1", member_role="worker"),
    ]
    mended = job(20, 3, attempt=rescues + 1, answered=rescues + 1, rescues=rescues)
    runs = [Run(20, attempt, 1, EPOCH + 3.4, None) for attempt in range(1, rescues + 1)]
    last = Run(20, rescues + 1, 2, EPOCH + at, EPOCH + at + 1)
    ended = replace(mended, finished_at=EPOCH + at + 1)
    return replace(
        GOOD,
        jobs=[*without(20), ended],
        runs=[*runs_without(20), *runs, last],
        lines=lines,
        deeds=[Deed("kill-worker", EPOCH + 3.5, EPOCH + 9, ("worker-1.1",))],
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("at", "soon"), [(9.0, True), (60.0, False)])
def test_a_job_whose_worker_is_lost_begins_anew_soon(at: float, soon: bool) -> None:
    assert (not each_job_ends_once(again(at)).violations) == soon


@pytest.mark.parametrize(("at", "held_up"), [(17.0, True), (60.0, False)])
def test_a_job_that_is_rescued_again_may_be_held_up_for_a_while(at: float, held_up: bool) -> None:
    evidence = again(at, rescues=2)
    second = line("MemberExpelled", 8, member_id="w", member_name="x", member_role="worker")
    lines = [*evidence.lines, second]

    assert (not each_job_ends_once(replace(evidence, lines=lines)).violations) == held_up


def test_a_job_cannot_begin_anew_while_the_database_is_away() -> None:
    evidence = again(60)
    away = Deed("db-down-long", EPOCH + 9, EPOCH + 58)

    assert not each_job_ends_once(replace(evidence, deeds=[*evidence.deeds, away])).violations


def test_a_worker_that_stops_gives_back_what_it_had_begun() -> None:
    stopping = line("ProcessStopping", 3.9, "info", process="worker-1.1")
    told = line("JobFinished", 1, "info", process="worker-1.1", job_id=1, attempt=1, outcome="fine")
    twice = replace(GOOD, runs=[*GOOD.runs, run(20, 4)], lines=[told, stopping])

    assert not each_job_ends_once(twice).violations
    assert each_job_ends_once(replace(twice, lines=[told])).violations


@pytest.mark.parametrize(("crashed", "excused"), [(3.6, True), (9.0, False)])
def test_a_server_that_crashes_may_forget_that_a_job_was_just_claimed(
    crashed: float, excused: bool
) -> None:
    crash = Deed("promote-sync", EPOCH + crashed, EPOCH + crashed + 0.5)
    doctored = replace(GOOD, runs=[*GOOD.runs, run(20, 5)], deeds=[*GOOD.deeds, crash])

    assert (not each_job_ends_once(doctored).violations) == excused


@pytest.mark.parametrize("outcome", ["failed", "succeeded"])
def test_a_further_attempt_follows_one_that_failed(outcome: str) -> None:
    failed = line("JobFinished", 4, job_id=20, attempt=1, outcome=outcome)
    doctored = replace(
        GOOD,
        jobs=changed(20, attempt=2, answered=2),
        runs=[*GOOD.runs, run(20, 5, attempt=2)],
        lines=[*GOOD.lines, failed],
    )

    assert (not each_job_ends_once(doctored).violations) == (outcome == "failed")


@pytest.mark.parametrize(("told", "explained"), [(4, True), (30, False)])
def test_an_attempt_that_failed_before_its_handler_began_may_be_told_by_number_alone(
    told: float, explained: bool
) -> None:
    doctored = replace(
        GOOD,
        jobs=changed(20, attempt=2, answered=2, finished_at=EPOCH + 4.6),
        runs=[*runs_without(20), Run(20, 2, 1, EPOCH + 4.5, EPOCH + 4.6)],
        lines=[*GOOD.lines, line("JobsFinished", told, outcome="failed", count=15)],
    )

    assert (not each_job_ends_once(doctored).violations) == explained


@pytest.mark.parametrize(("told", "explained"), [(5.0, True), (30, False)])
def test_who_rescues_the_jobs_of_a_worker_may_tell_of_it_when_they_have_run(
    told: float, explained: bool
) -> None:
    lost_worker = line("MemberExpelled", told, member_id="w", member_name="w", member_role="worker")
    doctored = replace(
        GOOD,
        jobs=changed(20, attempt=2, answered=2, rescues=1, finished_at=EPOCH + 4.6),
        runs=[*GOOD.runs, Run(20, 2, 1, EPOCH + 4.5, EPOCH + 4.6)],
        lines=[*GOOD.lines, lost_worker],
    )

    assert (not each_job_ends_once(doctored).violations) == explained


@pytest.mark.parametrize(
    ("looks", "seen", "misread"),
    [
        pytest.param([4, 6, 8], [], True, id="no look before saw it"),
        pytest.param([4, 6, 8], [("pillars cron-1", 6)], False, id="one did"),
        pytest.param([4, 6, 8], [("pillars cron-2", 6)], True, id="it saw another session"),
        pytest.param([1, 2], [], False, id="nobody looked meanwhile"),
    ],
)
def test_a_session_that_holds_for_long_is_seen_more_than_once(
    looks: list[float], seen: list[tuple[str, float]], misread: bool
) -> None:
    pins = [
        *(Pin(EPOCH + at, who, at - 3.0, "SELECT") for who, at in seen),
        Pin(EPOCH + 9, "pillars cron-1", 6.0, "SELECT"),
    ]
    doctored = replace(GOOD, pins=pins, sessions=[(EPOCH + at, 20) for at in (*looks, 9)])

    assert (not nothing_pinned(doctored).violations) == misread


SUCCEEDED = line("JobFinished", 3.6, "info", job_id=20, attempt=1, outcome="succeeded")


@pytest.mark.parametrize(
    ("fields", "deeds", "final"),
    [
        ({}, [], True),
        ({"state": "failed"}, [], False),
        ({"attempt": 2, "answered": 2}, [], False),
        # It was of a job of that id which is gone with the primary; this one was enqueued later.
        (
            {"run_at": EPOCH + 20, "finished_at": EPOCH + 21, "state": "cancelled"},
            [Deed("promote-async", EPOCH + 2, EPOCH + 5, forgets=(EPOCH + 2, EPOCH + 4))],
            True,
        ),
        ({"run_at": EPOCH + 20, "finished_at": EPOCH + 21, "state": "cancelled"}, [], False),
    ],
)
def test_what_a_worker_told_to_have_succeeded_stays_so(
    fields: dict[str, object], deeds: list[Deed], final: bool
) -> None:
    runs = runs_without(20) if "run_at" in fields else GOOD.runs
    lines = [*GOOD.lines, SUCCEEDED]
    doctored = replace(GOOD, jobs=changed(20, **fields), runs=runs, lines=lines, deeds=deeds)

    found = each_job_ends_once(doctored).violations

    assert any("told to have succeeded" in violation for violation in found) != final


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("connection failed: connection to server at X failed: Connection refused", True),
        ("terminating connection due to administrator command", True),
        ("canceling statement due to statement timeout", True),
        ("could not extend file: No space left on device", True),
        ("connection failed: session is read-only", True),
        ("connection failed: FATAL:  sorry, too many clients already", True),
        ("TimeoutError", True),
        ("server login has been failing, try again later (server_login_retry)", True),
        ("KeyError: 'connection'", False),
        ('syntax error at or near "FORM"', False),
        ("deadlock detected", False),
    ],
)
def test_a_failure_in_the_midst_of_trouble_must_be_of_that_trouble(
    error: str, expected: bool
) -> None:
    failed = [line("LoopFailed", 3, error=error)]

    assert (not nothing_unexpected(replace(GOOD, lines=failed)).violations) == expected


@pytest.mark.parametrize(("kind", "expected"), [("DiskFull", True), ("KeyError", False)])
def test_a_request_may_fail_of_trouble_alone(kind: str, expected: bool) -> None:
    message = f"{kind} while serving POST /api/v1/jobs"
    said = {"logger": "pillars.server.problems"}
    failed = [Line("server-1.1", EPOCH + 3, "warning", None, message, said)]

    assert (not nothing_unexpected(replace(GOOD, lines=failed)).violations) == expected


def test_a_job_that_fails_by_intention_fails_of_nothing_else() -> None:
    flaky = {"type": "nemesis.flaky", "outcome": "failed"}
    good = line("JobFinished", 30, error="ConnectionError: the first attempt fails", **flaky)
    bad = line("JobFinished", 30, error="KeyError: 'attempt'", **flaky)

    assert not nothing_unexpected(replace(GOOD, lines=[good])).violations
    assert nothing_unexpected(replace(GOOD, lines=[bad])).violations


STOPPED = line("ProcessStopped", 5, "info")
DOWN = Deed("db-down", EPOCH + 2, EPOCH + 8)
SHORT = Deed("stop-short", EPOCH + 2, EPOCH + 4, ("cron-1.1",))
RESTART = Deed("db-restart", EPOCH + 4.5, EPOCH + 5.5)
CUT = Deed("cut", EPOCH + 4.5, EPOCH + 7, ("cron-1.1",))
LOST = Deed("promote-async", EPOCH + 2, EPOCH + 5, forgets=(EPOCH + 2, EPOCH + 4))


@pytest.mark.parametrize(
    ("lines", "deeds", "right"),
    [
        pytest.param([JOINED, STOPPED, expelled(6)], [DOWN], True, id="it had ended"),
        pytest.param([JOINED, STOPPED, expelled(4)], [DOWN], False, id="it ended later"),
        pytest.param([JOINED, expelled(6)], [SHORT, RESTART], True, id="two harms make a lease"),
        pytest.param([JOINED, expelled(7)], [SHORT, CUT], True, id="two harms of its own do"),
        pytest.param([JOINED, expelled(6)], [SHORT], False, id="one alone does not"),
        pytest.param([JOINED, expelled(6)], [RESTART], False, id="the database's own does not"),
        pytest.param(
            [JOINED, expelled(10)],
            [SHORT, replace(RESTART, until=EPOCH + 10)],
            False,
            id="a long stall leaves nobody with the right to expel",
        ),
        pytest.param([expelled(7, "unheard")], [LOST], True, id="the answer to its join was lost"),
        pytest.param(
            [JOINED, expelled(8), expelled(60)],
            GOOD.deeds,
            True,
            id="a database that forgot expels once more",
        ),
        pytest.param([JOINED, expelled(8), lost(9)], GOOD.deeds, True, id="a loss that was told"),
        pytest.param([JOINED, lost(9)], [], False, id="a loss without an expulsion"),
        pytest.param([JOINED, lost(9)], [SHORT, CUT], True, id="the expeller was cut off, too"),
        pytest.param(
            [JOINED, lost(9)],
            [replace(SHORT, until=EPOCH + 8)],
            False,
            id="nothing kept the expeller from telling",
        ),
        pytest.param(
            [replace(JOINED, at=EPOCH + 3), lost(6)], [LOST], True, id="its joining was forgotten"
        ),
    ],
)
def test_whoever_is_expelled_had_ended_or_was_silent_for_a_lease(
    lines: list[Line], deeds: list[Deed], right: bool
) -> None:
    exits = {"cron-1.1": 0} if STOPPED in lines else {}
    doctored = replace(GOOD, lines=lines, deeds=deeds, exits=exits)

    assert (not nobody_expelled_wrongly(doctored).violations) == right


@pytest.mark.parametrize(("noted", "excused"), [((7, 8), True), ((14, 15), False)])
def test_a_pause_may_be_lost_with_its_primary_however_late_it_is_noted(
    noted: tuple[float, float], excused: bool
) -> None:
    ticks = [job(number, number, schedule="one", fire_at=EPOCH + number) for number in range(20)]
    earlier = ("two", EPOCH + 0.1, EPOCH + 0.2), ("two", EPOCH + 12, EPOCH + 13)
    late = ("one", EPOCH + noted[0] - 0.5, EPOCH + noted[1] - 0.5)
    paused = sorted([*earlier, late], key=lambda each: each[1])
    doctored = replace(GOOD, jobs=ticks, runs=[], deeds=[LOST], paused=paused)

    assert (not nothing_early(doctored).violations) == excused


@pytest.mark.parametrize(("applied", "good"), [(1.5, True), (0.6, False)])
def test_a_tick_is_demanded_from_when_its_schedule_was_applied(applied: float, good: bool) -> None:
    lines = [*GOOD.lines, line("SchedulesApplied", applied, "info")]

    assert (not no_tick_lost(replace(GOOD, jobs=without(1), lines=lines)).violations) == good


@pytest.mark.parametrize(("answered", "kept"), [([5.0], False), ([5.0, 20.0], True)])
def test_a_backfill_may_be_lost_with_its_primary_until_it_is_repeated(
    answered: list[float], kept: bool
) -> None:
    backfills = [(PAST, EPOCH - 2 * PAST_EVERY, EPOCH, EPOCH + at) for at in answered]
    doctored = replace(GOOD, jobs=without(41), deeds=[LOST], backfilled=backfills)

    assert bool(no_tick_lost(doctored).violations) == kept


@pytest.mark.parametrize(("after", "kept"), [(1.0, True), (3.0, False), (4.5, False), (10.0, True)])
def test_what_was_acknowledged_may_be_gone_only_if_the_primary_took_it_along(
    after: float, kept: bool
) -> None:
    doctored = replace(
        GOOD,
        jobs=without(20),
        runs=runs_without(20),
        acknowledged={20: EPOCH + after},
        deeds=[*GOOD.deeds, LOST],
    )

    assert bool(each_job_ends_once(doctored).violations) == kept


def test_a_line_is_put_to_its_true_time_whatever_clock_its_process_has(tmp_path: Path) -> None:
    clocks = Clocks(tmp_path)
    clocks.history["cron-1.1"] = [(EPOCH, 3600.0), (EPOCH + 10, -3600.0)]

    told = {
        ("cron-1.1", EPOCH - 2 + 3600): EPOCH - 2,
        ("cron-1.1", EPOCH + 5 + 3600): EPOCH + 5,
        ("cron-1.1", EPOCH + 15 - 3600): EPOCH + 15,
        ("cron-2.1", EPOCH + 5): EPOCH + 5,
    }

    assert {each: clocks.true(*each) for each in told} == told


def test_refused_results_are_counted_also_where_a_line_tells_only_how_many() -> None:
    refused = [line("FinishRefused", 5, job_ids=ids) for ids in ([1, 2], 24)]

    assert provoked(replace(GOOD, lines=refused))["late results refused"] == 26
