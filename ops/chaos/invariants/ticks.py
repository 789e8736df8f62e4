"""I1 to I3: which ticks there are, and when they came."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from ops.chaos.invariants.silence import AWAY, union
from ops.chaos.invariants.verdict import Verdict
from ops.chaos.load import PAST_EVERY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ops.chaos.evidence import Evidence, Job

# What may keep a tick from being written before its schedule is paused.
_HINDER = (*AWAY, "cut", "hog", "slow", "kill-crons", "kill-all")
# A job is at work until its end is committed, a moment after the time that it notes.
_FINISHING = 1.0
# Where nothing hinders it.
_RESUMED_WITHIN = 2.0
# So many ticks and none at work is no chance.
_A_FEW = 5
_NEVER, _FOREVER = float("-inf"), float("inf")


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
    # A schedule is of the start of its transaction, and fires from its end.
    applied = min(
        (line.at for line in evidence.lines if line.event == "SchedulesApplied"), default=0.0
    )
    for load in evidence.loads:
        if load.edited:
            continue
        if load.name not in evidence.created:
            verdict.require(holds=False, otherwise=f"{load.name} was never applied")
            continue
        for tick in load.ticks(max(applied, evidence.created[load.name]), evidence.until):
            state = states.get((load.name, tick))
            given_up = {"missed"} if not load.ahead else {"missed", "skipped", "cancelled"}
            verdict.require(state not in {None, *given_up}, f"{load.name} at {tick}: {state}")
    asked = 0.0
    for name, since, until, at in evidence.backfilled:
        forgotten, asked = evidence.forgotten(asked, at), at
        for tick in range(-(-int(since) // PAST_EVERY) * PAST_EVERY, int(until), PAST_EVERY):
            kept = states.get((name, tick)) not in {None, "missed", "skipped"}
            verdict.require(kept or forgotten, f"{name} at {tick}: backfilled, and gone")
    _check_created(evidence, verdict)
    if evidence.membership:
        # The sweep alone is slower than the next pause, which records what has not been fired yet.
        _check_resumed(evidence, verdict, states)
    _check_exclusive(evidence, verdict)
    _check_editions(evidence, verdict)
    return verdict


def nothing_early(evidence: Evidence) -> Verdict:
    """I3."""
    verdict = Verdict("I3", "nothing starts before its time by the database's clock")
    jobs = {job.id: job for job in evidence.jobs}
    for job in evidence.jobs:
        # A failed attempt has moved the job's time to that of the next; a cancel may come first.
        if job.started_at is not None and job.state not in {"failed", "cancelled"}:
            verdict.require(job.started_at >= job.run_at, f"job {job.id} was claimed early")
    for run in evidence.runs:
        job_of = jobs.get(run.job_id)
        if job_of is not None and job_of.fire_at is not None:
            verdict.require(run.began >= job_of.fire_at, f"job {run.job_id} ran before its tick")
    _check_paused(evidence, verdict)
    return verdict


def _check_paused(evidence: Evidence, verdict: Verdict) -> None:
    """A schedule fires nothing while it is paused."""
    names = {name for name, _, _ in evidence.paused}
    fired: defaultdict[str, list[float]] = defaultdict(list)
    for job in evidence.jobs:
        if job.schedule in names and job.state not in {"missed", "skipped"}:
            fired[job.schedule].append(job.fire_at or 0.0)
    noted = 0.0
    for name, since, until in evidence.paused:
        # One comes after the other: this one was asked for after the last was over, and a primary
        # that was lost since may have taken it along, however late it was noted.
        asked, noted = noted, until
        if evidence.forgotten(asked, until):
            continue
        wrongly = [at for at in fired[name] if since < at < until]
        verdict.require(
            not wrongly, f"{name} was paused from {since} to {until}, and fired {wrongly}"
        )


def _ticks(evidence: Evidence) -> Iterator[Job]:
    """Yield the rows of ticks; one that stands for several missed ones is a row for each."""
    every = {each.name: each.every for each in evidence.loads}
    for job in evidence.jobs:
        if job.fire_at is None:
            continue
        # A run of missed ticks whose first one is another job begins between two instants.
        if job.state != "missed" or job.fire_at == int(job.fire_at):
            yield job
        if job.fire_until is not None and job.schedule in every:
            step = every[job.schedule]
            for tick in range(int(job.fire_at) + step, int(job.fire_until) + 1, step):
                yield _at(job, float(tick))


def _at(job: Job, fire_at: float) -> Job:
    return replace(job, fire_at=fire_at, fire_until=None)


def _check_created(evidence: Evidence, verdict: Verdict) -> None:
    """Every tick since then is demanded, so nothing may have made a schedule anew."""
    for name, at in evidence.created.items():
        at_rest = evidence.created_at_rest.get(name)
        verdict.require(at_rest == at, f"{name} was made at {at}, at rest it is of {at_rest}")


def _check_resumed(
    evidence: Evidence, verdict: Verdict, states: Mapping[tuple[str | None, int], str]
) -> None:
    """A schedule that was resumed fires each tick until its next pause.

    Pauses come one after the other, in turns: a schedule is surely resumed when the next one is
    paused, and until the one before its own next turn is over; the last ones until the end. Left
    out is what a fault may have held up until the next pause, or taken along.
    """
    edited = {load.name: load.every for load in evidence.loads if load.edited}
    hindered = union(
        (deed.at - 1, deed.until + evidence.lease)
        for deed in evidence.deeds
        if deed.fault.startswith(_HINDER)
    )
    turns = [turn for turn in evidence.paused if turn[0] in edited]
    for number, (name, _, over) in enumerate(turns):
        others = turns[number + 1 : number + len(edited)]
        since = others[0][1] if others else over + _RESUMED_WITHIN
        until = others[-1][2] if len(others) == len(edited) - 1 else evidence.until
        for start, end in hindered:
            if start <= until and since <= end:
                since = end
        for tick in range(int(since) + 1, int(until) + 1, edited[name]):
            state = states.get((name, tick))
            verdict.require(
                state not in {None, "missed", "skipped", "cancelled"},
                f"{name} at {tick}: {state}, after it was resumed",
            )


def _check_exclusive(evidence: Evidence, verdict: Verdict) -> None:
    """Of the sorts that do not overlap some ticks become work; others are skipped for these."""
    overlaps = {load.name: load.overlap for load in evidence.loads if not load.ahead}
    by_schedule: defaultdict[str, list[Job]] = defaultdict(list)
    for job in evidence.jobs:
        if job.schedule in overlaps and job.fire_at is not None:
            by_schedule[job.schedule].append(job)
    for name, overlap in overlaps.items():
        jobs = sorted(by_schedule[name], key=lambda job: job.created_at)
        # Those that cancel the one before them seldom get to an end.
        done = any(
            job.state == "succeeded" or (overlap == "cancel_other" and job.started_at is not None)
            for job in jobs
        )
        verdict.require(
            done or len(jobs) < _A_FEW, f"{name}: of {len(jobs)} ticks none became work"
        )
        busy = _NEVER
        at_once: list[Job] = []
        for job in jobs:
            # In the transaction that skips ticks another may become work; those come first.
            if at_once and job.created_at > at_once[0].created_at:
                _require_busy(at_once, busy, verdict)
                at_once = []
            if job.state == "skipped":
                at_once.append(job)
            elif job.state != "missed":
                busy = max(busy, _FOREVER if job.finished_at is None else job.finished_at)
        _require_busy(at_once, busy, verdict)


def _require_busy(skipped: Sequence[Job], busy: float, verdict: Verdict) -> None:
    for job in skipped:
        verdict.require(
            job.created_at <= busy + _FINISHING,
            f"{job.schedule} at {job.fire_at}: skipped, and no other was at work",
        )


def _check_editions(evidence: Evidence, verdict: Verdict) -> None:
    """The latest files are in force, and whoever held older ones rolled nothing back."""
    verdict.require(
        evidence.in_force == {evidence.edition},
        f"edition {evidence.edition} of the files was written last, "
        f"{sorted(evidence.in_force)} is in force",
    )
    by_schedule: defaultdict[str | None, list[Job]] = defaultdict(list)
    for job in evidence.jobs:
        if job.edition is not None:
            by_schedule[job.schedule].append(job)
    for schedule, jobs in by_schedule.items():
        jobs.sort(key=lambda job: job.created_at)
        latest = 0
        for job in jobs:
            latest = max(latest, job.edition or 0)
            verdict.require(
                job.edition == latest,
                f"{schedule} at {job.fire_at}: edition {job.edition} of the files after {latest}",
            )
