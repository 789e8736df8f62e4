"""I7 and I8: what our sessions and processes take, and what they say."""

from __future__ import annotations

import re
import signal
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING

from ops.chaos.invariants.verdict import Verdict

if TYPE_CHECKING:
    from ops.chaos.evidence import Evidence, Line, Pin

# A session may hold back the oldest transaction for 5 s (the server ends an idle one then); half a
# second more is the resolution of looking.
LONGEST_PIN = 5.5
# Of these a look takes note.
SHORTEST_PIN = 0.1
# A cron has 5 links and a listener, a heart with its own, a pool of 4; a worker about as many.
SESSIONS_OF_A_PROCESS = 12
# After a fault is made good, processes may tell of it for as long as their time limits last.
AFTERMATH = 15.0
# A process that lives long enough is compared with itself: what is warm by the first mark may grow
# by a share, and by some bytes that caches and fragments take.
_WARM_AFTER, _LONG = 30.0, 60.0
MOST_GROWTH, GROWTH_SLACK = 1.25, 24 * 2**20
# The jobs of lost workers are looked for by one worker after the other, half a minute each.
_LOOKED_FOR = 60.0
# libfaketime slows what it is loaded into.
_TROUBLE = (
    *("db", "promote", "terminate", "crowd", "hog"),
    *("cut", "slow", "stop", "kill", "clocks"),
)
# What a fault may let a pass, an attempt or the driver fail of; anything else is a mistake of ours.
_NO_FAULT_OF_OURS = re.compile(
    r"connection (failed|is bad|timeout expired|is closed|is lost|has been closed|refused)"
    r"|(error connecting|reconnection attempt) in '?pool|discarding closed connection"
    r"|(consuming input|sending (query|data)|flushing|query cancellation) (failed|interrupted)"
    r"|query not terminated after cancellation"
    r"|terminating connection|server closed the connection|the connection is (closed|lost)"
    # PgBouncer, while the server is away.
    r"|server login has been failing|invalid server parameter|server conn crashed"
    r"|the database system is|too many clients|remaining connection slots"
    r"|couldn't get a connection after|(?<!\w)TimeoutError|timed out|due to [\w-]+ timeout"
    r"|No space left on device|read-only"
    # The server names the kind alone.
    r"|^(OperationalError|AdminShutdown|CannotConnectNow|CrashShutdown|ConnectionTimeout|DiskFull"
    r"|IdleInTransactionSessionTimeout|PoolTimeout|QueryCanceled|ReadOnlySqlTransaction"
    r"|TimeoutError|TooManyConnections) while serving",
)
_LOGGERS = {"psycopg", "psycopg.pool", "pillars.server.problems"}
_TELL_WHY = {"LoopFailed", "DatabaseUnreachable", "JobFinished"}
_TELL_THAT = {"JobsFinished", "FinishRefused"}
# Those that fail by intention, and how.
_INTENDED = {
    "nemesis.hopeless": "this job is given up at once",
    "nemesis.flaky": "ConnectionError: the first attempt fails",
}


def nothing_pinned(evidence: Evidence) -> Verdict:
    """I7."""
    verdict = Verdict("I7", "no session of ours holds back the oldest transaction over 5 s")
    verdict.checked = len(evidence.sessions)
    verdict.violations = [
        f"{pin.application}: {pin.seconds:.1f} s: {pin.query}"
        for pin in evidence.pins
        if pin.seconds - _stalled(evidence, pin.at - pin.seconds, pin.at) > LONGEST_PIN
        and not _misread(pin, evidence)
    ]
    return verdict


def _misread(pin: Pin, evidence: Evidence) -> bool:
    """Tell whether a session was seen to hold so long once, and by no look in all that time.

    That is taken for a misreading of the view: a session that held it was there to be seen.
    """
    since = pin.at - pin.seconds
    looks = any(since + SHORTEST_PIN < at < pin.at for at, _ in evidence.sessions)
    seen = any(
        each.application == pin.application and since < each.at < pin.at for each in evidence.pins
    )
    return looks and not seen


def nothing_unexpected(evidence: Evidence) -> Verdict:
    """I8."""
    verdict = Verdict(
        "I8",
        "no unexpected line or exit, nothing left undone, no growth of sessions, rows, memory",
    )
    for line in evidence.lines:
        verdict.require(_expected(line, evidence), f"{line.process}: {line.level} {line.message}")
    cut_off = Counter(line.process for line in evidence.lines if line.level == "cut off")
    for incarnation, count in cut_off.items():
        verdict.require(count == 1, f"{incarnation}: {count} lines cannot be read")
    for incarnation, code in evidence.exits.items():
        harmed = any(
            incarnation in deed.harmed and deed.fault.startswith("stop") for deed in evidence.deeds
        )
        good = code == 0 or (harmed and code == -signal.SIGKILL)
        verdict.require(good, f"{incarnation} ended with exit code {code}")
    if evidence.sessions:
        at_rest, most = evidence.sessions[-1][1], SESSIONS_OF_A_PROCESS * evidence.processes
        verdict.require(at_rest <= most, f"{at_rest} sessions of {evidence.processes} processes")
    for table, most in _most_rows(evidence).items():
        rows = evidence.rows.get(table, 0)
        verdict.require(rows <= most, f"{rows} rows in {table}, for what was done {most} at most")
    _check_memory(evidence, verdict)
    for what in evidence.unsettled:
        verdict.require(holds=False, otherwise=f"it never came to pass that {what}")
    return verdict


def _most_rows(evidence: Evidence) -> dict[str, float]:
    """Return how many rows of each table at rest what was done accounts for."""
    told = Counter(line.event for line in evidence.lines)
    crons = sum(
        line.event == "MemberJoined" and line.fields.get("member_role") == "cron"
        for line in evidence.lines
    )
    lost = sum(
        line.event == "MemberExpelled"
        and line.fields.get("member_role") == "worker"
        and line.at >= evidence.until - _LOOKED_FOR
        for line in evidence.lines
    )
    # Whoever is killed may have done one thing more than it told.
    untold = sum(max(1, len(deed.harmed)) for deed in evidence.deeds)
    sets = max(evidence.edition, told["SchedulesApplied"]) + untold
    reloaded = sum(load.reloaded for load in evidence.loads)
    ahead = max((job.fire_at - job.created_at for job in evidence.jobs if job.fire_at), default=0)
    withdrawals = len(evidence.paused) + 1 + sets * reloaded
    return {
        "members": evidence.processes,
        # A cron comes, gives its share away, and goes.
        "ring_log": 3 * (crons + untold),
        "schedule_sets": sets,
        # Of each second one, from the one that is due to the one that is just in sight.
        "withdrawn_ticks": withdrawals * (max(0, int(ahead)) + 2),
        "lost_workers": lost,
    }


def _check_memory(evidence: Evidence, verdict: Verdict) -> None:
    for incarnation, samples in evidence.memory.items():
        began, ended = samples[0][0], samples[-1][0]
        if ended - began < _WARM_AFTER + _LONG:
            continue
        warm = [size for at, size in samples if at - began >= _WARM_AFTER]
        part = len(warm) // 3
        early, late = median(warm[:part]), median(warm[-part:])
        verdict.require(
            late <= early * MOST_GROWTH + GROWTH_SLACK,
            f"{incarnation} grew from {early / 2**20:.0f} to {late / 2**20:.0f} MB "
            f"in {ended - began:.0f} s",
        )


def _stalled(evidence: Evidence, since: float, until: float) -> float:
    """Return for how long of a time the database stood still."""
    return sum(
        max(0.0, min(until, deed.until) - max(since, deed.at))
        for deed in evidence.deeds
        if deed.fault == "db-stall"
    )


def _expected(line: Line, evidence: Evidence) -> bool:
    if line.level in {"debug", "info", "cut off"}:
        return True
    if line.event == "JobFinished" and _is_intended(line):
        return True
    if line.event in {"MemberExpelled", "MembershipLost"}:
        return True  # whether rightly is I5's question
    if line.event == "SchedulesWaiting":
        return any(
            deed.at <= line.at <= deed.until for deed in evidence.deeds if deed.fault == "old-files"
        )
    troubled = any(
        deed.at - 1 <= line.at <= deed.until + AFTERMATH
        for deed in evidence.deeds
        if deed.fault.startswith(_TROUBLE)
    )
    return line.level == "warning" and troubled and _is_no_fault_of_ours(line)


def _is_intended(line: Line) -> bool:
    return line.fields.get("error") == _INTENDED.get(line.fields.get("type", ""), "")


def _is_no_fault_of_ours(line: Line) -> bool:
    if line.event in _TELL_WHY or line.fields.get("logger") in _LOGGERS:
        why = line.fields.get("error") or line.message
        return _NO_FAULT_OF_OURS.search(why) is not None
    return line.event in _TELL_THAT
