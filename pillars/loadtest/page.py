"""The report of a load test as one HTML page that needs nothing beside it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pillars.loadtest.charts import Mark, Series, bars, lines
from pillars.loadtest.verdict import EDGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pillars.loadtest.report import Report
    from pillars.loadtest.watch import Look

_STYLE = """
body { font: 15px/1.5 sans-serif; color: #222; max-width: 60rem; margin: 2rem auto }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.verdict { padding: .6rem 1rem; border-left: 6px solid #228833; background: #f2f8f3 }
.verdict.failed { border-color: #cc3311; background: #fdf1ee }
table { border-collapse: collapse } td, th { padding: .2rem .9rem .2rem 0; text-align: left }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
svg { width: 100%; height: auto } p.note { color: #666; font-size: .9rem }
"""

PROCESS_HEADINGS = ("PROCESS", "END", "CPU SECONDS", "PEAK MB")


def figures(report: Report) -> list[tuple[str, str]]:
    """Return the figures of a report in the order they are told, worded."""
    lateness, first = report.lateness, report.start_to_first_fire
    late = (
        f"{seconds(lateness.p50)} median, {seconds(lateness.p99)} at the 99th percentile, "
        f"{seconds(lateness.worst)} at most"
    )
    a_fire = report.cron_cpu_per_fire
    return [
        ("fires a second", f"{report.fires_per_second:,.1f}"),
        ("lateness", late),
        ("available to workers after their tick", f"{lateness.late:,}"),
        ("look-ahead", f"{report.order.lookahead:g} s"),
        ("start to first fire", "-" if first is None else seconds(first)),
        ("adding the schedules", seconds(report.fill_seconds)),
        ("CPU of all crons", _of_a_core(report, report.cron_cpu)),
        ("CPU of a fire, idling included", "-" if a_fire is None else f"{a_fire:,.0f} us"),
        ("CPU of the database", _of_a_core(report, report.database_cpu)),
        ("slots moved", f"{report.slots_moved:,}"),
    ]


def verdict(report: Report) -> str:
    """Return the verdict as a sentence."""
    counts = report.counts
    others = f", {counts.unexpected:,} unexpected" if counts.unexpected else ""
    return (
        f"expected {counts.expected:,}, enqueued {counts.enqueued:,}, missed {counts.missed:,}, "
        f"double {counts.double:,}{others}"
    )


def asked(report: Report) -> str:
    """Return what was asked for as a line."""
    order = report.order
    parts = (
        f"{_many(order.schedules, 'schedule')} ({order.mix})",
        _many(order.replicas, "cron"),
        _many(order.workers, "worker"),
        f"{order.seconds} s",
    )
    return ", ".join(parts)


def process_rows(report: Report) -> list[tuple[str, ...]]:
    """Return what each process took, under PROCESS_HEADINGS."""
    return [
        (
            each.name,
            each.end,
            "-" if each.cpu_seconds is None else f"{each.cpu_seconds:,.2f}",
            "-" if each.peak_bytes is None else f"{each.peak_bytes / 1e6:,.0f}",
        )
        for each in report.processes
    ]


def seconds(value: float) -> str:
    """Return a duration as people read it."""
    if not value:
        return "0"
    return f"{1000 * value:,.0f} ms" if value < 1 else f"{value:,.2f} s"


def page(report: Report) -> str:
    """Return the page."""
    failed = "" if report.counts else " failed"
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f"<title>Pillars load test</title><style>{_STYLE}</style></head><body>",
            f"<h1>Pillars load test: {escape(asked(report))}</h1>",
            f"<p>{escape(report.when)}, {escape(report.where)}</p>",
            f'<p class="verdict{failed}">{escape(verdict(report))}</p>',
            _table(("", ""), figures(report)),
            *_charts(report),
            *_processes(report),
            *_events(report),
            "</body></html>\n",
        ]
    )


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _of_a_core(report: Report, cpu: float | None) -> str:
    return "-" if cpu is None else f"{cpu / report.seconds:.1%} of a core"


def _charts(report: Report) -> Iterator[str]:
    course = report.course
    first = min((look.at for look in report.looks), default=0.0)
    span = (min(0.0, first), report.seconds)
    marks = [
        *(Mark(done.at, f"{done.deed} {done.name}") for done in report.deeds),
        *(
            Mark(at, f"{reason}: {moved:,} slots moved")
            for at, reason, _, moved, _ in course.rebalances
        ),
    ]

    def chart(series: Sequence[Series], unit: str) -> str:
        return lines(series, marks, lambda value: f"{value:,g}{unit}", span)

    yield "<h2>Lateness of ticks</h2>"
    yield '<p class="note">How many, on a logarithmic scale; "0" came before their time.</p>'
    yield bars(list(zip(_buckets(), report.lateness.buckets, strict=True)))
    yield "<h2>Lateness over time</h2>"
    yield '<p class="note">By the instant of the tick. Dashed: plan and rebalances.</p>'
    yield chart(
        [
            Series("99th percentile", [(at, p99) for at, _, p99, _ in course.timeline]),
            Series("at most", [(at, worst) for at, _, _, worst in course.timeline]),
        ],
        "s",
    )
    yield "<h2>Throughput</h2>"
    yield '<p class="note">Jobs a second, by when they were enqueued and when they ended.</p>'
    width = course.bin
    yield chart(
        [
            Series("enqueued", [(at, count / width) for at, count, _ in course.throughput]),
            Series("ended", [(at, count / width) for at, _, count in course.throughput]),
        ],
        "",
    )
    yield "<h2>Waiting</h2>"
    yield chart(
        [
            Series("schedules overdue", [(look.at, look.overdue) for look in report.looks]),
            Series("jobs due", [(look.at, look.depth) for look in report.looks]),
        ],
        "",
    )
    yield "<h2>CPU, in cores</h2>"
    database = [(look.at, look.database) for look in report.looks if look.database is not None]
    yield chart([Series("database", database), *_of_each(report, lambda look: look.cpu)], "")
    yield "<h2>Resident memory</h2>"
    yield chart(list(_of_each(report, _megabytes)), " MB")


def _of_each(report: Report, what: Callable[[Look], Mapping[str, float]]) -> Iterator[Series]:
    for process in report.processes:
        seen = [(look.at, what(look).get(process.name)) for look in report.looks]
        yield Series(process.name, [(at, value) for at, value in seen if value is not None])


def _megabytes(look: Look) -> dict[str, float]:
    return {name: resident / 1e6 for name, resident in look.resident.items()}


def _buckets() -> Iterator[str]:
    yield "0"
    for edge in EDGES[1:]:
        yield f"< {seconds(edge)}"
    yield f"{seconds(EDGES[-1])} +"


def _processes(report: Report) -> Iterator[str]:
    yield "<h2>Processes</h2>"
    yield _table(PROCESS_HEADINGS, process_rows(report))


def _events(report: Report) -> Iterator[str]:
    yield "<h2>Plan and rebalances</h2>"
    deeds = [(done.at, f"{done.deed} {done.name}", "") for done in report.deeds]
    changes = [
        (at, f"{reason}{f' ({whose})' if whose else ''}, {crons} crons", f"{moved:,}")
        for at, reason, whose, moved, crons in report.course.rebalances
    ]
    rows = [(f"{at:,.1f}", what, moved) for at, what, moved in sorted([*deeds, *changes])]
    yield _table(("SECOND", "WHAT", "SLOTS MOVED"), rows)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    head = row("th", headings) if any(headings) else ""
    return f"<table>{head}{''.join(row('td', cells) for cells in rows)}</table>"
