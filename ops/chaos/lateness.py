"""How late ticks were: during each fault, and while nothing happened; and a picture of it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ops.chaos.evidence import Deed, Evidence

STEADY = "(nothing)"
SEVERAL = "(several)"
SEVERAL_OUTAGES = "(several, outage)"
# What is aimed for, seconds: nothing enqueued ahead is late, the others are by so much at most;
# where the database was away, what was due meanwhile is written so soon after its return.
OTHERS_GOAL = 1.2
RETURN_GOAL = 1.0
_OUTAGES = ("db", "promote", "crowd")
# Nobody is left to write: that is as late as it lasts.
_HOPELESS = ("kill-crons", "kill-all")
# What was just being worked on when it happened is part of it.
_BEFORE = 1.0
_WIDTH, _HEIGHT, _MARGIN = 1200, 360, 50


class Tick(NamedTuple):
    """A tick that became work; seconds, 0 where it was in time.

    `late` is from its instant to when its job was written: to the start of the transaction that
    wrote it, which is all that the row tells; its commit comes a batch's few milliseconds later, or
    with the end of a stall that began in between. `delay`, from when it was due to start to when a
    handler had begun, has that commit in it; -1 where none did, or where jitter was to hold it up.
    """

    fire_at: float
    ahead: bool
    late: float
    delay: float
    created_at: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Lateness in all windows of one fault; seconds.

    Attributes:
        fault: its name.
        times: how often it was done.
        ticks: how many fell into its windows: from just before it until a lease after it was over,
            or until the next fault. Where windows of several overlap, that counts for all of them
            together and for none alone.
        late: how many, of those enqueued ahead, had no job at their instant.
        late_max: the worst of those.
        others_max: the worst of those enqueued at their time.
        delay_p99: of the start of those enqueued ahead.
        delay_max: the worst of those.
        returned: how long after it was over the last of what was due meanwhile was written, also
            of what was due while others overlapped it.
        goal: what is aimed for, for people; empty where nothing is. It is held to its own ticks
            alone: what is due while others overlap may be late for those. Without any it has none.
        reached: whether it was.
    """

    fault: str
    times: int
    ticks: int
    late: int
    late_max: float
    others_max: float
    delay_p99: float
    delay_max: float
    returned: float
    goal: str
    reached: bool


def ticks_of(evidence: Evidence) -> list[Tick]:
    """Return the ticks of the schedules that nobody edits, in order."""
    loads = {each.name: each for each in evidence.loads if not (each.edited or each.reloaded)}
    began: dict[int, float] = {}
    for run in evidence.runs:
        began[run.job_id] = min(run.began, began.get(run.job_id, run.began))
    found = []
    for job in evidence.jobs:
        load = loads.get(job.schedule or "")
        if load is None or job.fire_at is None or job.state in {"missed", "skipped"}:
            continue
        # A backfilled tick is late by intention.
        if not evidence.created[job.schedule or ""] < job.fire_at <= evidence.until:
            continue
        # A later attempt has a later time; the first one's is the tick itself, but for jitter.
        ran = job.id in began and not load.jitter
        delay = max(0.0, began[job.id] - job.fire_at) if ran else -1.0
        late = max(0.0, job.created_at - job.fire_at)
        found.append(Tick(job.fire_at, load.ahead, late, delay, job.created_at))
    return sorted(found)


def figures(evidence: Evidence) -> list[Figures]:
    """Return the figures of each fault, of several at once, and of the time between."""
    starts, labels = _stretches(evidence)
    by_label: defaultdict[str, list[Tick]] = defaultdict(list)
    ticks = ticks_of(evidence)
    for tick in ticks:
        by_label[labels[bisect_right(starts, tick.fire_at)]].append(tick)
    deeds: defaultdict[str, list[Deed]] = defaultdict(list)
    for deed in evidence.deeds:
        deeds[deed.fault].append(deed)
    faults = sorted({*deeds, *labels} - {STEADY})
    return [
        _figures(fault, by_label[fault], ticks, deeds.get(fault, [])) for fault in (STEADY, *faults)
    ]


def _stretches(evidence: Evidence) -> tuple[list[float], list[str]]:
    """Return when what is being done changes, and what it is before, between and after these."""
    windows = list(_windows(evidence))
    starts = sorted({edge for _, *span in windows for edge in span})
    labels = [STEADY]
    for start in starts:
        faults = {deed.fault for deed, since, until in windows if since <= start < until}
        labels.append(_label(faults))
    return starts, labels


def _windows(evidence: Evidence) -> Iterator[tuple[Deed, float, float]]:
    """Yield for each deed what counts as its time: of one lane no two overlap."""
    lanes: defaultdict[str, list[Deed]] = defaultdict(list)
    for deed in evidence.deeds:
        lanes[deed.lane].append(deed)
    for deeds in lanes.values():
        following = [deed.at - _BEFORE for deed in deeds[1:]] + [float("inf")]
        for deed, end in zip(deeds, following, strict=True):
            yield deed, deed.at - _BEFORE, min(deed.until + evidence.lease, end)


def _label(faults: set[str]) -> str:
    if len(faults) < 2:  # noqa: PLR2004 - several
        return next(iter(faults), STEADY)
    return SEVERAL_OUTAGES if any(map(_is_outage, faults)) else SEVERAL


def _is_outage(fault: str) -> bool:
    return fault.startswith(_OUTAGES)


def picture(evidence: Evidence) -> str:
    """Return an SVG: for each second the worst lateness and start delay, and each fault."""
    ticks = ticks_of(evidence)
    if not ticks:
        return "<svg xmlns='http://www.w3.org/2000/svg'/>"
    start, end = ticks[0].fire_at, ticks[-1].fire_at + 1
    top = max(1.0, *(max(tick.late, tick.delay) for tick in ticks))

    def x(at: float) -> float:
        return _MARGIN + (min(max(at, start), end) - start) / (end - start) * (_WIDTH - 2 * _MARGIN)

    def y(seconds: float) -> float:
        return _HEIGHT - _MARGIN - max(0.0, seconds) / top * (_HEIGHT - 2 * _MARGIN)

    late: defaultdict[float, float] = defaultdict(float)
    delay: defaultdict[float, float] = defaultdict(float)
    for tick in ticks:
        if tick.ahead:
            late[tick.fire_at] = max(late[tick.fire_at], tick.late)
            delay[tick.fire_at] = max(delay[tick.fire_at], tick.delay)
    marks = [_mark(deed, x(deed.at), x(deed.until)) for deed in evidence.deeds]
    lines = [
        _line([(x(at), y(value)) for at, value in sorted(series.items())], colour)
        for series, colour in ((delay, "#4477aa"), (late, "#cc3311"))
    ]
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
                'font-family="sans-serif" font-size="11">'
            ),
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
            *marks,
            *lines,
            f'<text x="4" y="{y(top):.0f}">{top:.1f} s</text>',
            f'<text x="4" y="{y(0):.0f}">0 s</text>',
            (
                f'<text x="{_MARGIN}" y="{_HEIGHT - 8}">worst of each second, schedules enqueued '
                'ahead: <tspan fill="#cc3311">job written late</tspan>, '
                '<tspan fill="#4477aa">handler begun late</tspan>; '
                f"{end - start:.0f} s in all</text>"
            ),
            "</svg>",
        ]
    )


def _figures(
    fault: str, ticks: Sequence[Tick], everybodys: Sequence[Tick], deeds: Sequence[Deed]
) -> Figures:
    ahead = [tick for tick in ticks if tick.ahead]
    delays = sorted(tick.delay for tick in ahead if tick.delay >= 0)
    late = sum(tick.late > 0 for tick in ahead)
    others_max = max((tick.late for tick in ticks if not tick.ahead), default=0.0)
    own = max((_returned(ticks, deed) for deed in deeds), default=0.0)
    if not ticks or fault in {STEADY, SEVERAL, SEVERAL_OUTAGES, *_HOPELESS}:
        goal, reached = "", True
    elif _is_outage(fault):
        goal, reached = f"return + {RETURN_GOAL:g}", own <= RETURN_GOAL
    else:
        goal, reached = f"0; {OTHERS_GOAL:g}", not late and others_max <= OTHERS_GOAL
    return Figures(
        fault=fault,
        times=len(deeds),
        ticks=len(ticks),
        late=late,
        late_max=max((tick.late for tick in ahead), default=0.0),
        others_max=others_max,
        delay_p99=delays[int(len(delays) * 0.99)] if delays else 0.0,
        delay_max=delays[-1] if delays else 0.0,
        returned=max((0.0, *(_returned(everybodys, deed) for deed in deeds))),
        goal=goal,
        reached=reached,
    )


def _returned(ticks: Sequence[Tick], deed: Deed) -> float:
    """Return how long after a deed the last of what was due meanwhile was written; in order."""
    since = bisect_left(ticks, deed.at, key=_fire_at)
    until = bisect_left(ticks, deed.until, key=_fire_at)
    return max((tick.created_at - deed.until for tick in ticks[since:until]), default=0.0)


def _fire_at(tick: Tick) -> float:
    return tick.fire_at


def _mark(deed: Deed, left: float, right: float) -> str:
    return (
        f'<rect x="{left:.1f}" y="{_MARGIN}" width="{max(1.0, right - left):.1f}" '
        f'height="{_HEIGHT - 2 * _MARGIN}" fill="#ddcc77" opacity="0.4"/>'
        f'<text x="{left:.1f}" y="{_MARGIN - 4}" '
        f'transform="rotate(-30 {left:.1f} {_MARGIN - 4})">{deed.fault}</text>'
    )


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}"/>'
