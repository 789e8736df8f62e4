"""I6: how jobs end."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from ops.chaos.invariants.attempts import TOLD_WITHIN, Attempts
from ops.chaos.invariants.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.chaos.evidence import Evidence, Job, Run

FINAL = {"succeeded", "dead", "cancelled", "skipped", "missed"}
# Whoever holds a unique key lives for two seconds, so an overlap by half of that is no rounding.
UNIQUE_SLACK = 1.0
# An answer is noted as long after the commit as its asker waits at most; meanwhile the primary may
# be lost.
STAMPED_WITHIN = 5.0


def each_job_ends_once(evidence: Evidence) -> Verdict:
    """I6."""
    verdict = Verdict(
        "I6",
        "each job ends once, by its last attempt, of which each has a cause; keys and limits hold",
    )
    runs: defaultdict[int, list[Run]] = defaultdict(list)
    for run in evidence.runs:
        runs[run.job_id].append(run)
    attempts, forgets, told = Attempts(evidence), evidence.forgets(), _told(evidence)
    known = {job.id for job in evidence.jobs}
    for job_id, at in evidence.acknowledged.items():
        verdict.require(
            job_id in known or evidence.forgotten(at - STAMPED_WITHIN, at),
            f"job {job_id} was acknowledged and is gone",
        )
    for job in evidence.jobs:
        if job.run_at <= evidence.until:
            verdict.require(job.state in FINAL, f"job {job.id} {job.type} is still {job.state}")
        if job.state == "dead":
            verdict.require(job.type == "nemesis.hopeless", f"job {job.id} {job.type} is dead")
        made = runs[job.id]
        if forgets and _half_forgotten(job, made, forgets):
            continue
        if job.attempt > 1 or job.rescues or len(made) > 1:
            attempts.check(job, made, verdict)
        if job.id in told:
            verdict.require(
                (job.state, job.attempt) == ("succeeded", told[job.id]),
                f"job {job.id} was told to have succeeded at attempt {told[job.id]}, and is "
                f"{job.state} at attempt {job.attempt}",
            )
        if job.state == "succeeded":
            last = [run for run in made if run.attempt == job.attempt]
            whole = any(run.ended is not None for run in last)
            verdict.require(whole, f"job {job.id} succeeded: no whole run of its last attempt")
            verdict.require(
                job.answered == job.attempt,
                f"job {job.id}: the result of attempt {job.answered} stands, "
                f"the last was {job.attempt}",
            )
    _check_unique_keys(evidence, verdict)
    _check_concurrency(evidence, runs, verdict)
    return verdict


def _told(evidence: Evidence) -> dict[int, int]:
    """Return the attempts at which workers told that jobs had succeeded, which they tell for good.

    A primary that was lost may have taken some along, and their ids are given again.
    """
    return {
        line.fields["job_id"]: line.fields["attempt"]
        for line in evidence.lines
        if line.event == "JobFinished"
        and line.fields["outcome"] == "succeeded"
        and not evidence.forgotten(line.at - TOLD_WITHIN, line.at)
    }


def _half_forgotten(job: Job, runs: Sequence[Run], forgets: Sequence[tuple[float, float]]) -> bool:
    """Tell whether a primary that was lost may have taken some of what is told of a job with it.

    Where that is its start or its end, its worker runs the same attempt again, beside the first one
    if that is not over; where it is a handler's row, the job has a run too few.
    """
    began = min([job.run_at, *(run.began for run in runs)])
    ended = job.finished_at or 0.0
    return any(began <= until and ended >= since for since, until in forgets)


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
    forgets = evidence.forgets()
    for job in evidence.jobs:
        if job.concurrency_key is None or job.concurrency_limit is None:
            continue
        limits[job.concurrency_key] = job.concurrency_limit
        if forgets and _half_forgotten(job, runs[job.id], forgets):
            continue
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
