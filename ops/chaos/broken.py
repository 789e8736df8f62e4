"""A process with a guard taken out, to see that the nemesis notices: `NEMESIS_BREAK=swap,tick`.

Only statements as they are read from their files are changed, in this process; `pillars/` knows
nothing of it. Each break names the text it takes out, and fails if that is no longer there.

One break takes out what is no guard: crons without membership own nothing, know nobody, and all the
same nothing may be lost or doubled.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from pillars.db import statements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pillars.db.statements import Statement

UNSHARED = "membership"

# Name: what it is for people, and (statement, text, what stands there instead)...
BREAKS: Mapping[str, tuple[str, tuple[tuple[str, str, str], ...]]] = {
    "swap": (
        "a fire does not compare the schedule's version",
        (
            ("move_cursors", "AND version = plan.version ", ""),
            ("move_cursors", "AND schedules.version = plan.version ", ""),
        ),
    ),
    "tick": (
        "a tick may have several jobs (the run drops the unique index, too)",
        (
            (
                "insert_ticks",
                "ON CONFLICT (schedule_id, fire_at) WHERE schedule_id IS NOT NULL DO NOTHING",
                "",
            ),
        ),
    ),
    "ring": (
        "each cron takes all slots for its own",
        (("due", "get_bit(%(slots)s::bytea, slot) = 1", "length(%(slots)s::bytea) > 0"),),
    ),
    "cursor": (
        "a cursor passes over each tick at a whole four seconds",
        (
            (
                "move_cursors",
                "next_fire_at = to_timestamp(plan.next_fire_at)",
                (
                    "next_fire_at = to_timestamp(plan.next_fire_at + "
                    "CASE mod(plan.next_fire_at, 4) "
                    "WHEN 0 THEN extract(epoch FROM (definition ->> 'every')::interval)::bigint "
                    "ELSE 0 END)"
                ),
            ),
        ),
    ),
    "early": (
        "a claim takes jobs that are not due",
        (
            ("claim", "AND run_at <= coalesce(%(now)s::timestamptz, now()) ", ""),
            ("next_due", "min(head.run_at)", "min(head.run_at) - interval '3 s'"),
        ),
    ),
    "fence": (
        "a finish does not ask whose attempt it is",
        (
            ("succeed_with_result", "AND attempt = result.attempt", ""),
            ("succeed_with_result", "AND worker_id = %(worker_id)s AND state = 'running' ", ""),
            ("succeed_with_result", "AND jobs.attempt = result.attempt", ""),
            (
                "succeed_with_result",
                "AND jobs.worker_id = %(worker_id)s AND jobs.state = 'running'",
                "AND %(worker_id)s::uuid IS NOT NULL",
            ),
        ),
    ),
    "streak": (
        "whoever beats may expel, however long it was silent itself",
        (
            ("expel", "AND me.streak_at <= clock.now - make_interval(secs => %(lease)s)", ""),
            (
                "expel",
                "AND me.heartbeat_at > clock.now - make_interval(secs => %(lease)s / 2.0)",
                "",
            ),
        ),
    ),
    "map": (
        "some slots of the ring get no owner",
        (
            (
                "move_ring",
                "map = %(map)s::uuid[]",
                "map = array_fill(NULL::uuid, ARRAY[64]) || (%(map)s::uuid[])[65:]",
            ),
        ),
    ),
    "pin": (
        "a cron counts its schedules for seven seconds",
        (("count_owned", "FROM pillars.schedules", "FROM pg_sleep(7), pillars.schedules"),),
    ),
    "error": (
        "a cron cannot count its schedules",
        (("count_owned", "count(*)", "count(*) / 0"),),
    ),
    UNSHARED: ("crons are no members and own nothing: the sweep alone carries everything", ()),
}


def change(given: Mapping[str, Statement], breaks: list[str]) -> Mapping[str, Statement]:
    """Return the statements with these guards taken out, those that are among them.

    Raises:
        ValueError: a statement no longer has the text that is to be taken out.
    """
    changed = dict(given)
    for name in breaks:
        for statement, text, instead in BREAKS[name][1]:
            if statement not in changed:
                continue
            sql = changed[statement].sql
            if text not in sql:
                raise ValueError(f"{name}: {statement} has no {text!r}")
            changed[statement] = replace(changed[statement], sql=sql.replace(text, instead))
    return changed


def main() -> int:
    """Take the guards out, then be the process."""
    breaks = [name for name in os.environ["NEMESIS_BREAK"].split(",") if name]
    load = statements.load_statements

    def load_broken(package: str, file: str = "queries.sql") -> Mapping[str, Statement]:
        return change(load(package, file), breaks)

    statements.load_statements = load_broken
    # Only now, so that every room reads broken statements.
    if UNSHARED in breaks:
        from ops.chaos import unshared  # noqa: PLC0415

        unshared.install()
    from pillars import cli  # noqa: PLC0415

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
