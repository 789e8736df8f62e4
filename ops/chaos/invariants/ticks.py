"""I1 to I3: which ticks there are, and when they came."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from ops.chaos.invariants.verdict import Verdict
from ops.chaos.load import PAST_EVERY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.chaos.evidence import Evidence, Job


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
    asked = 0.0
    for name, since, until, at in evidence.backfilled:
        forgotten, asked = evidence.forgotten(asked, at), at
        for tick in range(-(-int(since) // PAST_EVERY) * PAST_EVERY, int(until), PAST_EVERY):
            kept = states.get((name, tick)) not in {None, "missed", "skipped"}
            verdict.require(kept or forgotten, f"{name} at {tick}: backfilled, and gone")
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
    noted = 0.0
    for name, since, until in evidence.paused:
        # One comes after the other: this one was asked for after the last was over, and a primary
        # that was lost since may have taken it along, however late it was noted.
        asked, noted = noted, until
        if evidence.forgotten(asked, until):
            continue
        fired = [
            job.fire_at
            for job in evidence.jobs
            if job.schedule == name
            and job.state not in {"missed", "skipped"}
            and since < (job.fire_at or 0.0) < until
        ]
        verdict.require(not fired, f"{name} was paused from {since} to {until}, and fired {fired}")
    return verdict


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
