"""I6 as well: each further attempt has its cause, each loss of a worker leads to one in time."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from ops.chaos.invariants.silence import AWAY, HEARTBEAT_SHARE, union

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.chaos.evidence import Deed, Evidence, Job, Run
    from ops.chaos.invariants.verdict import Verdict

# Seconds: how often the jobs of lost workers are looked for, how long one that went back waits for
# its turn; with its second rescue it is also held up, by chance, for so many seconds times two.
_LOOK, _QUEUEING = 1.2, 5.0
_HELD_UP_FROM = 2
# A claim does not wait for the disk: a server that crashes may forget those of the last second.
# Whoever made it runs the job all the same, once there is a server again.
_CLAIM_FORGOTTEN = 1.0
_CRASHES = ("db-restart", "db-down", "promote")
# Where the database cannot be reached, or the pools of the workers are empty, nothing is begun, nor
# at once when it can.
_HINDER = (*AWAY, "hog", "slow")
_AFTERMATH = 3.0
# What was done is told after its commit: the end of a job, the loss of a worker and its jobs.
TOLD_WITHIN = 2.0
_LOSSES = {"MemberExpelled", "MembershipLost", "MemberLeft"}


class Attempts:
    """What is known of attempts: which ones failed, by whom they were made, who was lost when."""

    def __init__(self, evidence: Evidence) -> None:
        """Read the logs once, to be asked about the few jobs that had several attempts."""
        self._evidence = evidence
        pids = {(run.job_id, run.attempt): run.pid for run in evidence.runs}
        told: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._failed: set[tuple[int, int]] = set()
        # Of many that fail at once, most are told by their number alone.
        self._many_failed: list[float] = []
        self._stopping: dict[str, float] = {}
        for line in evidence.lines:
            if line.event == "JobFinished":
                attempt = line.fields["job_id"], line.fields["attempt"]
                if attempt in pids:
                    told[pids[attempt]][line.process] += 1
                if line.fields["outcome"] == "failed":
                    self._failed.add(attempt)
            elif line.event == "JobsFinished" and line.fields["outcome"] == "failed":
                self._many_failed.append(line.at)
            elif line.event == "ProcessStopping":
                self._stopping[line.process] = line.at
        # Of a pid that was given twice, the one who told more.
        self._worker = {pid: lines.most_common(1)[0][0] for pid, lines in told.items()}
        self._losses = _losses(evidence)
        self._all_losses = sorted(at for losses in self._losses.values() for at in losses)

    def check(self, job: Job, runs: Sequence[Run], verdict: Verdict) -> None:
        """Hold a job of several attempts to their causes."""
        runs = sorted(runs, key=lambda run: run.began)
        # An attempt that failed before its handler could leave a row is not among the runs.
        first = min([job.created_at, job.run_at, *(run.began for run in runs)])
        last = self._evidence.until if job.finished_at is None else job.finished_at
        causes = sum((job.id, attempt) in self._failed for attempt in range(1, job.attempt))
        failures = job.attempt - 1 - job.rescues
        verdict.require(
            failures <= causes or self._may_be_untold(first, last),
            f"job {job.id} {job.type} made {job.attempt} attempts: {job.rescues} were lost and "
            f"{causes} failed",
        )
        lost = sum(first <= at <= last + TOLD_WITHIN for at in self._all_losses)
        verdict.require(
            job.rescues <= lost,
            f"job {job.id} {job.type} was rescued {job.rescues} times, and {lost} workers lost",
        )
        self._check_repeats(job, runs, verdict)
        self._check_reruns(job, runs, verdict)

    def may_be_repeated(self, first: Run, second: Run) -> bool:
        """Tell whether an attempt may have been made twice, for nobody knew of the first time.

        A server that crashed forgot that it was claimed; or its worker, about to stop, gave it back
        after it had begun, which does not count.
        """
        crashed = any(
            deed.at - _CLAIM_FORGOTTEN <= first.began <= deed.until + _AFTERMATH
            for deed in self._evidence.deeds
            if deed.fault.startswith(_CRASHES)
        )
        stopping = self._stopping.get(self._worker.get(first.pid, ""), 0.0)
        return crashed or 0.0 < stopping <= second.began

    def _check_repeats(self, job: Job, runs: Sequence[Run], verdict: Verdict) -> None:
        seen: dict[int, Run] = {}
        for run in runs:
            earlier = seen.setdefault(run.attempt, run)
            verdict.require(
                earlier is run or self.may_be_repeated(earlier, run),
                f"job {job.id} {job.type} ran twice as its attempt {run.attempt}",
            )

    def _check_reruns(self, job: Job, runs: Sequence[Run], verdict: Verdict) -> None:
        """Hold the run after a lost one to the time within which it has to begin."""
        by_attempt: dict[int, Run] = {}
        for run in runs:
            by_attempt[run.attempt] = run
        lost = [
            attempt for attempt in range(1, job.attempt) if (job.id, attempt) not in self._failed
        ]
        if len(lost) != job.rescues:
            return
        for attempt in lost:
            run, after = by_attempt.get(attempt), by_attempt.get(attempt + 1)
            if run is None or after is None:
                continue
            who = self._worker.get(run.pid, "")
            losses = self._losses.get(who, self._all_losses)
            at = next((at for at in losses if run.began <= at), None)
            # It may be told a moment after its jobs went back.
            if at is None or at >= after.began:
                continue
            allowed = _LOOK + _QUEUEING
            allowed += 2.0**job.rescues if job.rescues >= _HELD_UP_FROM else 0.0
            took = after.began - at - self._hindered(who, at, after.began)
            verdict.require(
                took <= allowed,
                f"job {job.id} {job.type} began anew {after.began - at:.1f} s after its worker "
                f"{who} was lost",
            )

    def _hindered(self, lost: str, since: float, until: float) -> float:
        """Return for how long of a time no worker but the lost one may have been able to begin.

        For a lease after that nobody has the right to expel it.
        """
        spans = union(
            (deed.at, deed.until + _AFTERMATH + self._evidence.lease)
            for deed in self._evidence.deeds
            if deed.fault.startswith(_HINDER) or _harms_another(deed, lost)
        )
        return sum(max(0.0, min(until, end) - max(since, start)) for start, end in spans)

    def _may_be_untold(self, since: float, until: float) -> bool:
        """Tell whether failures between these instants may be missing in the logs."""
        slack = self._evidence.lease
        return any(since <= at <= until + slack for at in self._many_failed) or any(
            deed.at <= until + slack and since <= deed.until
            for deed in self._evidence.deeds
            if deed.fault.startswith("kill") and any(map(_is_worker, deed.harmed))
        )


def _losses(evidence: Evidence) -> dict[str, list[float]]:
    """Return when each worker was lost to the others, in order."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    members = {
        line.fields["member_id"]: line.process
        for line in evidence.lines
        if line.event == "MemberJoined"
    }
    for line in evidence.lines:
        if line.event in _LOSSES and line.fields.get("member_role") == "worker":
            found[members.get(line.fields["member_id"], line.process)].append(line.at)
    for deed in evidence.deeds:
        if deed.fault.startswith("kill"):
            for who in filter(_is_worker, deed.harmed):
                # Whoever expels it may be killed before that is told.
                found[who].append(deed.at + evidence.lease * (1 + HEARTBEAT_SHARE))
    return {who: sorted(losses) for who, losses in found.items()}


def _is_worker(incarnation: str) -> bool:
    return incarnation.startswith("worker")


def _harms_another(deed: Deed, worker: str) -> bool:
    return any(_is_worker(each) and each != worker for each in deed.harmed)
