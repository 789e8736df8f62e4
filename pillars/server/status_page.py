"""The page for people: who owns what, what waits, what fires next, what failed.

One document without scripts; it asks the browser to load it again after a few seconds, unless the
reader stops that with a link.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from pillars.cron.definition import when_in_words
from pillars.server.html import Html, element, join
from pillars.server.records import rfc3339
from pillars.server.status import StatusReader
from pillars.server.style import CSS, POLICY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from aiohttp.typedefs import Handler

    from pillars.cluster.members import MemberRecord
    from pillars.cron.book import ScheduleRecord
    from pillars.db.database import Database
    from pillars.queue.desk import JobRecord, QueueRecord
    from pillars.server.html import Child
    from pillars.server.status import Status

REFRESH = 5
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
# Beyond these, in seconds, an age is worth a look.
_LATE_HEARTBEAT = 3.0
_LATE_JOB = 10.0
_LONGEST_ERROR = 300


def status_handler(database: Database, links: Sequence[str]) -> Handler:
    """Return the handler of the page; `links` are paths of the user's own to show at its foot."""
    reader = StatusReader(database)

    async def show_status(request: web.Request) -> web.Response:
        status = await reader.read()
        page = render(status, links, live="still" not in request.query)
        return web.Response(
            text=page,
            content_type="text/html",
            status=HTTPStatus.SERVICE_UNAVAILABLE if status.now is None else HTTPStatus.OK,
            headers=_HEADERS,
        )

    return show_status


def render(status: Status, links: Sequence[str], *, live: bool) -> str:
    """Return the page as HTML; `live` pages load themselves again."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="refresh", content=str(REFRESH)) if live else None,
        element("title", "Pillars"),
        element("link", rel="icon", href="data:,"),
        element("style", CSS),
    )
    body = element("body", _header(status, live=live), _main(status), _footer(links))
    return "<!doctype html>\n" + element("html", head, body, lang="en")


def _header(status: Status, *, live: bool) -> Html:
    at = f"as of {status.now:%H:%M:%S} UTC" if status.now else None
    switch = (
        join(f"refreshes every {REFRESH} s · ", element("a", "hold still", href="?still"))
        if live
        else join("holding still · ", element("a", "refresh", href="?"))
    )
    return element(
        "header",
        element("h1", "Pillars"),
        element("p", at),
        element("p", switch),
    )


def _main(status: Status) -> Html:
    notice = None
    if status.now is None:
        sentence = "The database does not answer; this page goes on asking."
        notice = element("section", element("p", sentence, class_="bad"), class_="wide notice")
    return element(
        "main",
        notice,
        _section("Members", "live processes and their share of the ring", _members(status)),
        _section("Queues", "unfinished jobs", _queues(status)),
        _section(
            "Next to fire",
            "soonest first; ticks go on the queue a few seconds ahead",
            _schedules(status),
            wide=True,
        ),
        _section(
            "Recent failures",
            "dead, or failed and to be tried again",
            _failures(status),
            wide=True,
        ),
    )


def _section(title: str, hint: str, content: Html, *, wide: bool = False) -> Html:
    heading = element("h2", title, " ", element("small", hint))
    return element("section", heading, content, class_="wide" if wide else None)


def _members(status: Status) -> Html:
    members = status.members.rows
    total = sum(member.slots for member in members or ())
    return _table(
        ["role", "name", "state", "share of slots", "schedules#", "heartbeat#"],
        None if members is None else [_member(member, total) for member in members],
        "no process is up",
    )


def _member(member: MemberRecord, total: int) -> Html:
    share: Child = ""
    if member.role == "cron":
        share = join(f"{member.slots:,}", _bar(member.slots / total if total else 0.0))
    late = member.heartbeat_age > _LATE_HEARTBEAT
    return _row(
        member.role,
        element("code", member.name),
        element("span", member.state, class_="good" if member.state == "active" else "warn"),
        share,
        _number(f"{member.schedules:,}" if member.role == "cron" else ""),
        _number(span(member.heartbeat_age), "warn" if late else None),
    )


def _queues(status: Status) -> Html:
    queues = status.queues.rows
    return _table(
        ["queue", "waiting#", "running#", "failed#", "later#", "oldest#", "limits"],
        None if queues is None else [_queue(queue) for queue in queues],
        "nothing waits and nothing runs",
    )


def _queue(queue: QueueRecord) -> Html:
    return _row(
        element("code", queue.queue),
        _number(f"{queue.available:,}"),
        _number(f"{queue.running:,}"),
        _number(f"{queue.failed:,}", "bad" if queue.failed else None),
        _number(f"{queue.scheduled:,}"),
        _number(span(queue.oldest), "warn" if queue.oldest > _LATE_JOB else None),
        element("span", queue.limits_in_words(), class_="warn" if queue.paused_at else "soft"),
    )


def _schedules(status: Status) -> Html:
    schedules = status.schedules.rows
    return _table(
        ["schedule", "job", "when", "next tick#", "enqueued up to#"],
        None if schedules is None else [_schedule(schedule, status.now) for schedule in schedules],
        "no schedule is enabled",
    )


def _schedule(schedule: ScheduleRecord, now: datetime | None) -> Html:
    return _row(
        element("code", schedule.name),
        element("code", schedule.job),
        element("span", when_in_words(schedule.definition), class_="soft"),
        _number(_moment(schedule.next_fire_at, now)),
        _number(_moment(schedule.last_fire_at, now)),
    )


def _failures(status: Status) -> Html:
    jobs = status.failures.rows
    return _table(
        ["job#", "type", "state", "attempt#", "when#", "error"],
        None if jobs is None else [_failure(job, status.now) for job in jobs],
        "no job has failed lately",
    )


def _failure(job: JobRecord, now: datetime | None) -> Html:
    error = (job.error or "").strip()[:_LONGEST_ERROR]
    return _row(
        _number(element("a", job.id, href=f"/api/v1/jobs/{job.id}")),
        element("code", job.type),
        element("span", job.state, class_="bad" if job.state == "dead" else "warn"),
        _number(f"{job.attempt}" + (f" of {job.max_attempts}" if job.max_attempts else "")),
        _number(_moment(job.finished_at or job.run_at, now)),
        _cell(error, "error"),
    )


def _footer(links: Sequence[str]) -> Html:
    ours = ("/api/v1/jobs", "/api/v1/schedules", "/openapi.json", "/metrics", "/sd/prometheus")
    return element("footer", [element("a", path, href=path) for path in (*links, *ours)])


def _table(columns: Sequence[str], rows: list[Html] | None, empty: str) -> Html:
    # A column whose name ends in # holds numbers.
    if rows is None:
        return element(
            "p", "this could not be read now; the server's log may say why", class_="bad"
        )
    if not rows:
        return element("p", empty, class_="empty")
    heads = [
        element("th", name.rstrip("#"), class_="number" if name.endswith("#") else None)
        for name in columns
    ]
    return element("table", element("thead", element("tr", heads)), element("tbody", rows))


def _row(*cells: Child) -> Html:
    return element("tr", [cell if isinstance(cell, _Cell) else _cell(cell) for cell in cells])


def _number(content: Child, class_: str | None = None) -> _Cell:
    return _cell(content, f"number {class_}" if class_ else "number")


def _cell(content: Child, class_: str | None = None) -> _Cell:
    return _Cell(element("td", content, class_=class_))


class _Cell(Html):
    """A whole cell, which a row takes as it is."""

    __slots__ = ()


def _bar(share: float) -> Html:
    # Presentation attributes of SVG need no inline style, which the policy forbids.
    bars = [
        element("rect", width="100", height="8", rx="2"),
        element("rect", width=f"{100 * min(share, 1.0):.1f}", height="8", rx="2"),
    ]
    return element(
        "svg",
        bars,
        class_="share",
        aria_hidden="true",
        viewBox="0 0 100 8",
        preserveAspectRatio="none",
    )


def _moment(moment: datetime | None, now: datetime | None) -> Html:
    if moment is None:
        return element("span", "never", class_="soft")
    distance = (moment - now).total_seconds() if now else None
    if distance is None:
        words = f"{moment:%H:%M:%S}"
    else:
        words = f"in {span(distance)}" if distance > 0 else f"{span(-distance)} ago"
    return element("time", words, datetime=rfc3339(moment), title=rfc3339(moment))


def span(seconds: float) -> str:
    """Return a length of time in its two largest units, as 4 s, 2 min or 3 h 20 min."""
    whole = max(0, round(seconds))
    if whole < 60:  # noqa: PLR2004 - a minute
        return f"{whole} s"
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, left = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    first = next(index for index, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)
