"""One run: start everything, harm it, let it come to rest, stop it, and gather the evidence."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

import psycopg

from ops.chaos import evidence as gathered
from ops.chaos.crew import Crew
from ops.chaos.faults import FAULTS, Field, deck
from ops.chaos.load import as_yaml, loads
from ops.chaos.proxy import Proxy
from ops.chaos.witness import NOW, Witness
from ops.chaos.work import TABLES
from pillars.db.embedded import EmbeddedPostgres
from pillars.testing import migrated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pillars.ground.settings import Secret

    Tell = Callable[[str, float], None]

PATIENCE = 90.0
_LOOK_EVERY = 0.25
_MEMBERS: LiteralString = "SELECT count(*) FROM pillars.members WHERE state = 'active'"
_APPLIED: LiteralString = "SELECT count(*) FROM pillars.schedules"
_OWNERS: LiteralString = "SELECT owner::text FROM pillars.ring, unnest(map) AS owner"
_CRONS: LiteralString = (
    "SELECT id::text FROM pillars.members WHERE role = 'cron' AND state = 'active'"
)
_SHARING: LiteralString = (
    "SELECT count(DISTINCT owner) FROM pillars.ring, unnest(map) AS owner "
    "JOIN pillars.members ON members.id = owner AND members.state = 'active'"
)
_OPEN: LiteralString = (
    "SELECT count(*) FROM pillars.jobs "
    "WHERE finished_at IS NULL AND run_at <= to_timestamp(%s::float8)"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to be; durations in seconds."""

    seconds: float
    seed: int
    faults: tuple[str, ...]
    crons: int
    workers: int
    schedules: int
    lease: float
    lookahead: float
    broken: str = ""
    keep: Path | None = None


class NemesisError(Exception):
    """The run itself did not come about."""


async def run(plan: Plan, tell: Tell) -> gathered.Evidence:
    """Run it all; `tell` is given what happens and how much of the time is over, 0 to 1.

    Raises:
        NemesisError: the processes did not start.
    """
    with tempfile.TemporaryDirectory(prefix="nemesis-", ignore_cleanup_errors=True) as temporary:
        directory = (plan.keep or Path(temporary)).absolute()
        (directory / "schedules").mkdir(parents=True, exist_ok=True)
        server = EmbeddedPostgres(Path(temporary) / "data")
        tell("starting PostgreSQL", 0.0)
        try:
            dsn = await asyncio.to_thread(server.start)
            await _prepare(plan, directory, dsn)
            proxy = Proxy(_socket(server))
            crew = _crew(plan, directory, dsn, await proxy.start())
            try:
                field = Field(crew, proxy, server, plan.lease, random.Random(plan.seed))  # noqa: S311
                return await _fight(plan, field, Witness(dsn), tell)
            finally:
                crew.end()
                await proxy.stop()
        finally:
            await asyncio.to_thread(server.stop, "immediate")


async def _prepare(plan: Plan, directory: Path, dsn: Secret) -> None:
    (directory / "schedules" / "nemesis.yaml").write_text(as_yaml(loads(plan.schedules)))
    await migrated(dsn.reveal())
    with psycopg.connect(dsn.reveal(), autocommit=True) as sql:
        sql.execute(TABLES)
        if "tick" in plan.broken.split(","):
            sql.execute("DROP INDEX pillars.jobs_tick")
            sql.execute("CREATE INDEX jobs_tick ON pillars.jobs (schedule_id, fire_at)")


def _crew(plan: Plan, directory: Path, dsn: Secret, port: int) -> Crew:
    settings = {
        "PILLARS_DATABASE_URL": dsn.reveal(),
        "PILLARS_SCHEDULES_DIR": str(directory / "schedules"),
        "PILLARS_APP": "ops.chaos.work:app",
        "PILLARS_LOG": "json",
        "PILLARS_LEASE": str(plan.lease),
        "PILLARS_LOOKAHEAD": str(plan.lookahead),
    }
    # Some go to the database through the proxy, the others past it.
    linked = frozenset({f"cron-{plan.crons}", f"worker-{plan.workers}"})
    link = f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable&gssencmode=disable"
    return Crew(directory, settings, linked, link, plan.broken)


async def _fight(plan: Plan, field: Field, witness: Witness, tell: Tell) -> gathered.Evidence:
    crew, dsn = field.crew, field.server.dsn
    tell("starting processes", 0.0)
    names = ["server-1"]
    names += [f"cron-{number + 1}" for number in range(plan.crons)]
    names += [f"worker-{number + 1}" for number in range(plan.workers)]
    for name in names:
        crew.start(name)
    began = await _until(dsn, _MEMBERS, len(names)) and await _until(
        dsn, _APPLIED, len(loads(plan.schedules))
    )
    if not began:
        raise NemesisError("the processes did not start:\n" + _last_words(crew))

    looking = asyncio.create_task(witness.look())
    await _harm(plan, field, witness, tell)
    tell("coming to rest", 1.0)
    unsettled = await _settle(dsn, names, plan)
    with psycopg.connect(dsn.reveal(), autocommit=True) as sql:
        ((until,),) = sql.execute(NOW).fetchall()
        if not await _until(dsn, _OPEN, 0, (until,)):
            unsettled.append("every due job ended")
        owners = tuple(owner for (owner,) in sql.execute(_OWNERS).fetchall())
        ring = gathered.Ring(owners, frozenset(cron for (cron,) in sql.execute(_CRONS).fetchall()))
    looking.cancel()
    tell("stopping", 1.0)
    await crew.stop(crew.alive())

    with psycopg.connect(dsn.reveal(), autocommit=True) as sql:
        return gathered.Evidence(
            lease=plan.lease,
            until=until,
            loads=loads(plan.schedules),
            created=gathered.read_created(sql),
            jobs=gathered.read_jobs(sql),
            runs=gathered.read_runs(sql),
            ring=ring,
            ring_log=gathered.read_ring_log(sql),
            lines=gathered.read_lines(crew),
            deeds=field.deeds,
            acknowledged=frozenset(witness.acknowledged),
            paused=witness.paused,
            pins=witness.pins,
            sessions=witness.sessions,
            processes=len(names),
            exits=crew.exits,
            unsettled=unsettled,
        )


async def _harm(plan: Plan, field: Field, witness: Witness, tell: Tell) -> None:
    began = time.monotonic()
    background = [asyncio.create_task(work) for work in (witness.trickle(), witness.edit())]
    for fault, pause in deck(plan.seed, plan.faults):
        tell("waiting", (time.monotonic() - began) / plan.seconds)
        await asyncio.sleep(pause)
        if time.monotonic() - began >= plan.seconds:
            break
        tell(fault, (time.monotonic() - began) / plan.seconds)
        await FAULTS[fault](field)
    for task in background:
        task.cancel()
    for found in await asyncio.gather(*background, return_exceptions=True):
        if isinstance(found, Exception):
            raise found


async def _settle(dsn: Secret, names: list[str], plan: Plan) -> list[str]:
    """Wait until the cluster is at rest; return what never came to pass."""
    unsettled = []
    if not await _until(dsn, _MEMBERS, len(names)):
        unsettled.append("all processes are members")
    if not await _until(dsn, _SHARING, plan.crons):
        unsettled.append("all crons share the ring")
    return unsettled


async def _until(
    dsn: Secret, query: LiteralString, expected: int, params: Sequence[object] = ()
) -> bool:
    """Look until a query returns a number; False if it does not in PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    with psycopg.connect(dsn.reveal(), autocommit=True) as sql:
        while sql.execute(query, params).fetchall() != [(expected,)]:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_LOOK_EVERY)
    return True


def _socket(server: EmbeddedPostgres) -> Path:
    running = server.running()
    if running is None:
        raise NemesisError("PostgreSQL does not run")
    return running.socket_dir / ".s.PGSQL.5432"


def _last_words(crew: Crew) -> str:
    texts = [(each.id, each.log.read_text(errors="replace")[-500:]) for each in crew.past]
    return "\n".join(f"{name}: {text}" for name, text in texts)
