"""The flags of `pillars loadtest`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pillars.cli.flags import file, page, seconds, span, whole
from pillars.loadtest.mix import Mix

if TYPE_CHECKING:
    from pillars.cli.flags import Commands

_EPILOG = """\
mixes:
  each-second   each schedule fires each second
  each-minute   once a minute, spread over its seconds
  realistic     from each second to once a year: 2.6 fires a second for each 1,000 schedules
  herd          all at the full minute

The schedules are cron texts and intervals in several time zones; their jobs do nothing. The run
has a database of its own: an embedded PostgreSQL in a temporary directory (TMPDIR says where), or
one made beside the database that is named, and dropped afterwards. The exit code is 0 when no tick
was missed, none was enqueued twice, and nothing was enqueued that nobody expected.

examples:
  pillars loadtest --schedules 100000 --replicas 3 --seconds 60
  pillars loadtest --mix each-second --plan "20s:kill,30s:join,40s:leave" --report run.html
"""
_MIXES = tuple(mix.value for mix in Mix)


def add_loadtest(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command."""
    # Not by `command`: what `pillars up` keeps in its data directory has no part in this.
    parser = commands.add_parser(
        "loadtest",
        help="measure what this machine and database take",
        description="Measure what this machine and database take.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run="pillars.cli.loadtest:loadtest")
    add = parser.add_argument
    add("--schedules", type=whole, default=1_000, metavar="M", help="default 1000")
    add("--mix", choices=_MIXES, default=Mix.REALISTIC.value, help="default realistic")
    add("--replicas", type=whole, default=3, metavar="N", help="crons (default 3)")
    add("--workers", type=whole, default=1, metavar="W", help="worker processes (default 1)")
    add("--seconds", type=seconds, default=60, metavar="S", help="how long (default 60)")
    add(
        "--plan",
        default="",
        metavar="PLAN",
        help="what is done to crons and when: TIME:join, kill or leave, comma-separated",
    )
    add(
        "--lookahead",
        type=span,
        metavar="DURATION",
        help="how long before its time a tick is enqueued (PILLARS_LOOKAHEAD, default 5s)",
    )
    add("--seed", type=whole, default=1, help="of who is killed, and who fires when (default 1)")
    add(
        "--database-url",
        metavar="URL",
        help="lends its server (PILLARS_DATABASE_URL); default an embedded one",
    )
    add(
        "--in-place",
        action="store_true",
        help="run in the named database itself, beside what it holds",
    )
    add("--json", type=file, metavar="FILE", help="write all figures")
    add("--report", type=page, metavar="FILE.html", help="write a page with charts")
