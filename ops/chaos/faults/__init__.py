"""What can be done to the processes and their database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.chaos import clocks
from ops.chaos.faults import database, links, processes, replicas

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ops.chaos.field import Field

FAULTS: Mapping[str, Callable[[Field], Awaitable[None]]] = {
    fault.__name__.replace("_", "-"): fault
    for fault in (
        processes.kill_cron,
        processes.kill_worker,
        processes.kill_server,
        processes.kill_two,
        processes.kill_crons,
        processes.kill_workers,
        processes.kill_all,
        processes.stop_short,
        processes.stop_long,
        processes.stop_worker_long,
        processes.roll,
        processes.storm,
        database.db_restart,
        database.db_down,
        database.db_down_long,
        database.db_stall,
        database.db_full,
        database.promote_sync,
        database.promote_async,
        database.terminate,
        database.crowd,
        database.hog,
        links.cut,
        links.slow,
        replicas.clocks,
        replicas.old_files,
        replicas.twin,
    )
}
# What can be harmed at once: processes, the database, the links between them.
_LANES = {
    processes.__name__: "processes",
    replicas.__name__: "processes",
    database.__name__: "database",
    links.__name__: "links",
}
LANES: Mapping[str, str] = {name: _LANES[fault.__module__] for name, fault in FAULTS.items()}
# Those in which members have to know of each other.
NEED_MEMBERS = ("old-files", "twin")


def missing(fault: str) -> str | None:
    """Return what this machine lacks for a fault, and how to come by it; None if nothing."""
    if fault == "clocks" and clocks.LIBRARY is None:
        return "libfaketime is not installed (Debian and Ubuntu: apt-get install faketime)"
    return None
