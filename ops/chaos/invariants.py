"""What must hold after a run: pure functions from the evidence to violations."""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ops.chaos.evidence import Deed, Evidence, Job, Line, Run

FINAL = {"succeeded", "dead", "cancelled", "skipped", "missed"}
SLOTS = 4096
# A session may hold back the oldest transaction for 5 s (the server ends an idle one then); half a
# second more is the resolution of looking.
LONGEST_PIN = 5.5
# A cron has 5 links and a listener, a heart with its own, a pool of 4; a worker about as many.
SESSIONS_OF_A_PROCESS = 12
# A heartbeat comes each fifth of a lease, jittered: the silence may have begun before the harm.
HEARTBEAT_SHARE = 0.3
# After a fault is made good, processes may tell of it for as long as their time limits last.
AFTERMATH = 15.0
# Whoever holds a unique key lives for two seconds, so an overlap by half of that is no rounding.
UNIQUE_SLACK = 1.0
_NOISE = {"LoopFailed", "DatabaseUnreachable", "JobFinished", "JobsFinished", "FinishRefused"}


@dataclass(slots=True)
class Verdict:
    """An invariant, how many things were held to it, and which of them broke it."""

    name: str
    claim: str
    checked: int = 0
    violations: list[str] = field(default_factory=list)

    def require(self, holds: bool, otherwise: str) -> None:
        """Hold one more thing to it."""
        self.checked += 1
        if not holds:
            self.violations.append(otherwise)


def judge(evidence: Evidence) -> list[Verdict]:
    """Hold the evidence to every invariant."""
    return [check(evidence) for check in CHECKS]


def each_tick_once(evidence: Evidence) -> Verdict:
    """I1."""
    verdict = Verdict("I1", "at most one job for a tick, and none that nobody asked for")
    ticks = Counter((job.schedule, job.fire_at) for job in _ticks(evidence))
    for (schedule, fire_at), count in ticks.items():
        verdict.require(count == 1, f"{schedule} has {count} jobs for its tick {fire_at}")
    every = {each.name: each.every for each in evidence.loads}
    for schedule, fire_at in ticks:
        on_grid = fire_at is not None and fire_at % every.get(schedule or "", 1) == 0
        verdict.require(on_grid, f"{schedule} has no tick {fire_at}")
    return verdict


def no_tick_lost(evidence: Evidence) -> Verdict:
    """I2."""
    verdict = Verdict("I2", "no tick is missing, and none that was caught up is recorded as missed")
    states: dict[tuple[str | None, int], str] = {
        (job.schedule, int(job.fire_at or 0)): job.state for job in _ticks(evidence)
    }
    for load in evidence.loads:
        if load.edited:
            continue
        if load.name not in evidence.created:
            verdict.require(holds=False, otherwise=f"{load.name} was never applied")
            continue
        for tick in load.ticks(evidence.created[load.name], evidence.until):
            state = states.get((load.name, tick))
            wanted = state is not None and (state not in {"missed", "skipped"} or not load.ahead)
            verdict.require(wanted and state != "missed", f"{load.name} at {tick}: {state}")
    return verdict


def nothing_early(evidence: Evidence) -> Verdict:
    """I3."""
    verdict = Verdict("I3", "nothing starts before its time by the database's clock")
    jobs = {job.id: job for job in evidence.jobs}
    for job in evidence.jobs:
        if job.started_at is not None and job.state != "failed":
            # A failed attempt has moved the job's time to that of the next one.
            verdict.require(job.started_at >= job.run_at, f"job {job.id} was claimed early")
    for run in evidence.runs:
        job_of = jobs.get(run.job_id)
        if job_of is not None and job_of.fire_at is not None:
            verdict.require(run.began >= job_of.fire_at, f"job {run.job_id} ran before its tick")
    for name, since, until in evidence.paused:
        fired = [
            job.fire_at
            for job in evidence.jobs
            if job.schedule == name
            and job.state not in {"missed", "skipped"}
            and since < (job.fire_at or 0.0) < until
        ]
        verdict.require(not fired, f"{name} was paused from {since} to {until}, and fired {fired}")
    return verdict


def ring_is_whole(evidence: Evidence) -> Verdict:
    """I4."""
    verdict = Verdict("I4", "each slot has one active owner, shares differ by one, moves are few")
    sizes = Counter(evidence.ring.owners)
    for owner in evidence.ring.owners:
        verdict.require(owner in evidence.ring.crons, f"a slot is owned by {owner}")
    verdict.require(len(evidence.ring.owners) == SLOTS, f"{len(evidence.ring.owners)} slots")
    shares = [sizes[cron] for cron in evidence.ring.crons]
    verdict.require(bool(shares) and max(shares) - min(shares) <= 1, f"shares are {shares}")
    for change in evidence.ring_log:
        if change.reason in {"join", "leave"}:
            parts = change.members + (change.reason == "leave")
            fewest = -(-SLOTS // max(parts, 1)) if change.members else SLOTS
            verdict.require(
                change.moved <= fewest,
                f"ring {change.version} moved {change.moved} slots: {change.reason} to "
                f"{change.members} members",
            )
    for what in evidence.unsettled:
        verdict.require(holds=False, otherwise=f"it never came to pass that {what}")
    return verdict


def nobody_expelled_wrongly(evidence: Evidence) -> Verdict:
    """I5."""
    verdict = Verdict("I5", "nobody is expelled who was not dead, stopped or cut off for a lease")
    incarnations = {
        line.fields["member_id"]: line.process
        for line in evidence.lines
        if line.event == "MemberJoined"
    }
    for line in evidence.lines:
        if line.event != "MemberExpelled":
            continue
        member = incarnations.get(line.fields["member_id"])
        # One that was harmed before it could say that it had joined is known by its name.
        who = member or line.fields["member_name"]
        justified = any(
            _was_dark(deed, who, line.at, evidence.lease)
            for deed in evidence.deeds
            for harmed in deed.harmed
            if harmed == who or (member is None and harmed.rsplit(".", 1)[0] == who)
        )
        verdict.require(justified, f"{who} at {line.at:.1f}: {line.message} (by {line.process})")
    return verdict


def each_job_ends_once(evidence: Evidence) -> Verdict:
    """I6."""
    verdict = Verdict("I6", "each job ends once, by its last attempt; keys and limits hold")
    runs: defaultdict[int, list[Run]] = defaultdict(list)
    for run in evidence.runs:
        runs[run.job_id].append(run)
    known = {job.id for job in evidence.jobs}
    for job_id in evidence.acknowledged:
        verdict.require(job_id in known, f"job {job_id} was acknowledged and is gone")
    for job in evidence.jobs:
        if job.run_at <= evidence.until:
            verdict.require(job.state in FINAL, f"job {job.id} {job.type} is still {job.state}")
        if job.state == "dead":
            verdict.require(job.type == "nemesis.hopeless", f"job {job.id} {job.type} is dead")
        if job.state == "succeeded":
            last = [run for run in runs[job.id] if run.attempt == job.attempt]
            whole = len(last) == 1 and last[0].ended is not None
            verdict.require(whole, f"job {job.id} succeeded: {len(last)} runs of its last attempt")
            verdict.require(
                job.answered == job.attempt,
                f"job {job.id}: the result of attempt {job.answered} stands, "
                f"the last was {job.attempt}",
            )
    _check_unique_keys(evidence, verdict)
    _check_concurrency(evidence, runs, verdict)
    return verdict


def nothing_pinned(evidence: Evidence) -> Verdict:
    """I7."""
    verdict = Verdict("I7", "no session of ours holds back the oldest transaction over 5 s")
    verdict.checked = len(evidence.sessions)
    verdict.violations = [
        f"{pin.application}: {pin.seconds:.1f} s: {pin.query}"
        for pin in evidence.pins
        if pin.seconds - _stalled(evidence, pin.at - pin.seconds, pin.at) > LONGEST_PIN
    ]
    return verdict


def nothing_unexpected(evidence: Evidence) -> Verdict:
    """I8."""
    verdict = Verdict("I8", "no unexpected line in a log, no exit but 0, no growth of sessions")
    for line in evidence.lines:
        verdict.require(_expected(line, evidence), f"{line.process}: {line.level} {line.message}")
    for incarnation, code in evidence.exits.items():
        harmed = any(
            incarnation in deed.harmed and deed.fault.startswith("stop") for deed in evidence.deeds
        )
        good = code == 0 or (harmed and code == -signal.SIGKILL)
        verdict.require(good, f"{incarnation} ended with exit code {code}")
    if evidence.sessions:
        at_rest, most = evidence.sessions[-1][1], SESSIONS_OF_A_PROCESS * evidence.processes
        verdict.require(at_rest <= most, f"{at_rest} sessions of {evidence.processes} processes")
    return verdict


CHECKS: tuple[Callable[[Evidence], Verdict], ...] = (
    each_tick_once,
    no_tick_lost,
    nothing_early,
    ring_is_whole,
    nobody_expelled_wrongly,
    each_job_ends_once,
    nothing_pinned,
    nothing_unexpected,
)


def _ticks(evidence: Evidence) -> Iterator[Job]:
    """Yield the rows of ticks; one that stands for several missed ones is a row for each."""
    every = {each.name: each.every for each in evidence.loads}
    for job in evidence.jobs:
        if job.fire_at is None:
            continue
        yield job
        if job.fire_until is not None and job.schedule in every:
            step = every[job.schedule]
            for tick in range(int(job.fire_at) + step, int(job.fire_until) + 1, step):
                yield _at(job, float(tick))


def _at(job: Job, fire_at: float) -> Job:
    return replace(job, fire_at=fire_at, fire_until=None)


def _stalled(evidence: Evidence, since: float, until: float) -> float:
    """Return for how long of a time the database stood still."""
    return sum(
        max(0.0, min(until, deed.until) - max(since, deed.at))
        for deed in evidence.deeds
        if deed.fault == "db-stall"
    )


def _was_dark(deed: Deed, who: str, at: float, lease: float) -> bool:
    """Tell whether a deed made its victim silent for a lease before an instant."""
    silent = deed.fault.startswith(("kill", "stop", "cut"))
    long_enough = at - deed.at >= lease * (1 - HEARTBEAT_SHARE)
    # One that is killed stays silent for ever; another may be expelled just as it wakes.
    not_over = deed.fault.startswith("kill") or at <= deed.until + lease / 5
    return bool(who) and silent and long_enough and not_over


def _check_unique_keys(evidence: Evidence, verdict: Verdict) -> None:
    by_key: defaultdict[str, list[Job]] = defaultdict(list)
    for job in evidence.jobs:
        if job.unique_key is not None:
            by_key[job.unique_key].append(job)
    for key, jobs in by_key.items():
        jobs.sort(key=lambda job: job.created_at)
        for one, next_one in pairwise(jobs):
            ended = one.finished_at if one.finished_at is not None else float("inf")
            verdict.require(
                next_one.created_at >= ended - UNIQUE_SLACK,
                f"jobs {one.id} and {next_one.id} held the key {key} at once",
            )


def _check_concurrency(
    evidence: Evidence, runs: defaultdict[int, list[Run]], verdict: Verdict
) -> None:
    """Count, at the start of each run, how many of its key were under way.

    Left out are attempts that were lost with their worker: whoever was taken for dead may still be
    at work, that is what `at least once` means; and those whose end the database did not take.
    """
    by_key: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    limits: dict[str, int] = {}
    for job in evidence.jobs:
        if job.concurrency_key is None or job.concurrency_limit is None:
            continue
        limits[job.concurrency_key] = job.concurrency_limit
        for run in runs[job.id]:
            if run.attempt == job.attempt and run.ended is not None:
                by_key[job.concurrency_key].append((run.began, run.ended))
    for key, spans in by_key.items():
        changes = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
        busy = 0
        for at, change in changes:
            busy += change
            if change > 0:
                verdict.require(
                    busy <= limits[key], f"{busy} jobs of {key} ran at {at:.3f}, of {limits[key]}"
                )


def _expected(line: Line, evidence: Evidence) -> bool:
    if line.level in {"debug", "info", "cut off"}:
        return True
    if line.event == "JobFinished" and line.fields.get("type") in {
        "nemesis.hopeless",
        "nemesis.flaky",
    }:
        return True
    if line.event in {"MemberExpelled", "MembershipLost"}:
        return True  # whether rightly is I5's question
    troubled = any(
        deed.at - 1 <= line.at <= deed.until + AFTERMATH
        for deed in evidence.deeds
        if deed.fault.startswith(("db", "terminate", "cut", "slow", "stop", "kill"))
    )
    known = line.event in _NOISE or line.fields.get("logger") in {"psycopg", "psycopg.pool"}
    return line.level == "warning" and known and troubled
