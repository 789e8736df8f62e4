"""`pillars status`: members, shares of the ring, queues."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pillars.cli.context import opened, settings_from
from pillars.cli.output import QUEUE_HEADINGS, console, print_json, queue_rows, table
from pillars.ground.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from rich.console import Group

    from pillars.db.database import Database
    from pillars.queue.desk import Lateness

_EVERY = 1.0
_MEMBER_HEADINGS = ("ROLE", "NAME", "STATE", "PID", "SLOTS", "SCHEDULES", "HEARTBEAT", "URL")


def status(arguments: argparse.Namespace) -> int:
    """Show the state of the cluster once, or again and again with --watch."""
    if arguments.watch and arguments.json:
        raise UsageError(
            "--watch is for people: with --json, call `pillars status` again and again"
        )
    asyncio.run(_watch(arguments) if arguments.watch else _once(arguments))
    return 0


async def _once(arguments: argparse.Namespace) -> None:
    async with opened(settings_from(arguments)) as database:
        state = await _state(database)
    if arguments.json:
        print_json(state)
    else:
        console().print(_picture(state))


async def _watch(arguments: argparse.Namespace) -> None:
    import psycopg  # noqa: PLC0415 - costly, as the others are
    from rich.live import Live  # noqa: PLC0415

    async with opened(settings_from(arguments)) as database:
        with Live(console=console(), screen=console().is_terminal, auto_refresh=False) as live:
            while True:
                try:
                    shown: Group | str = _picture(await _state(database))
                except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError):
                    # Who watches a failover wants to see its end.
                    shown = "the database does not answer; asking again"
                live.update(shown, refresh=True)
                await asyncio.sleep(_EVERY)


async def _state(database: Database) -> dict[str, Any]:
    from pillars.cluster.members import list_members, ring_state  # noqa: PLC0415
    from pillars.queue.desk import list_queues, recent_lateness  # noqa: PLC0415
    from pillars.telemetry.snapshot import overdue_for  # noqa: PLC0415

    ring = await ring_state(database, changes=1)
    return {
        "ring": {"version": ring.version, "slots": ring.slots},
        "members": [
            {
                "id": str(member.id),
                "role": member.role,
                "name": member.name,
                "state": member.state,
                "pid": member.pid,
                "slots": member.slots,
                "schedules": member.schedules,
                "heartbeat_age": round(member.heartbeat_age, 3),
                "url": member.url,
            }
            for member in await list_members(database)
        ],
        "queues": await list_queues(database),
        "ticks": {
            "overdue_for": await overdue_for(database),
            "recent": await recent_lateness(database),
        },
    }


def _picture(state: dict[str, Any]) -> Group:
    from rich.console import Group  # noqa: PLC0415

    members = [
        (
            member["role"],
            member["name"],
            member["state"],
            str(member["pid"]),
            member["slots"] if member["role"] == "cron" else "",
            member["schedules"] if member["role"] == "cron" else "",
            f"{member['heartbeat_age']:.1f}s",
            member["url"],
        )
        for member in state["members"]
    ]
    queues = queue_rows(state["queues"])
    ring = state["ring"]
    parts: list[Any] = [
        f"ring version {ring['version']}, {ring['slots']:,} slots",
        _ticks_in_words(**state["ticks"]),
        "",
    ]
    parts.append(
        table(_MEMBER_HEADINGS, members) if members else "no process is alive: run `pillars up`",
    )
    parts.append("")
    parts.append(table(QUEUE_HEADINGS, queues) if queues else "the queues are empty")
    return Group(*parts)


def _ticks_in_words(overdue_for: float, recent: Lateness) -> str:
    overdue = f"one is overdue for {overdue_for:.1f}s" if overdue_for else "none is overdue"
    if not recent.ticks:
        return f"ticks: {overdue}"
    return (
        f"ticks: {overdue}; the newest {recent.ticks:,} were late by {recent.p50:.3f}s in the "
        f"median, {recent.p99:.3f}s at the 99th percentile, {recent.longest:.3f}s at most"
    )
