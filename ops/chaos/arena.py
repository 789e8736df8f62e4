"""One run: start everything, harm it, let it come to rest, stop it, and gather the evidence."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

import psycopg

from ops.chaos import evidence as gathered
from ops.chaos.broken import UNSHARED
from ops.chaos.clocks import Clocks
from ops.chaos.crew import Crew
from ops.chaos.faults import FAULTS, LANES
from ops.chaos.faults.database import FULL
from ops.chaos.field import LONG_PAUSE, PAUSE, Field, deck
from ops.chaos.files import Files
from ops.chaos.load import loads
from ops.chaos.pair import SOCKET, Pair, PairError
from ops.chaos.pooler import Pooler
from ops.chaos.proxy import Proxy
from ops.chaos.witness import NOW, Witness
from ops.chaos.work import TABLES
from pillars.db.embedded import EmbeddedError
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
_EDITION: LiteralString = (
    "SELECT min((args ->> 'edition')::bigint) FROM pillars.schedules WHERE args ? 'edition'"
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
    each_second: int = 0
    pooler: str = ""
    broken: str = ""
    together: bool = False
    keep: Path | None = None

    @property
    def membership(self) -> bool:
        """Whether crons are members."""
        return not self.breaks(UNSHARED)

    def breaks(self, name: str) -> bool:
        """Tell whether this guard is taken out."""
        return name in self.broken.split(",")


class NemesisError(Exception):
    """The run itself did not come about."""


async def run(plan: Plan, tell: Tell) -> gathered.Evidence:
    """Run it all; `tell` is given what happens and how much of the time is over, 0 to 1.

    Raises:
        NemesisError: the processes did not start.
    """
    with tempfile.TemporaryDirectory(prefix="nemesis-", ignore_cleanup_errors=True) as temporary:
        directory = (plan.keep or Path(temporary)).absolute()
        directory.mkdir(parents=True, exist_ok=True)
        pair = Pair(Path(temporary))
        pooler = Pooler(Path(temporary) / "pooler", pair.door)
        tell("starting PostgreSQL", 0.0)
        try:
            await asyncio.to_thread(pair.start)
            await _prepare(plan, pair.dsn)
            if plan.pooler:
                await asyncio.to_thread(pooler.start)
            proxy = Proxy(pooler.socket if plan.pooler else pair.door / SOCKET)
            files = Files(directory / "schedules", loads(plan.schedules, plan.each_second))
            crew = _crew(plan, directory, pair, pooler, await proxy.start())
            clocks = Clocks(Path(temporary))
            try:
                field = Field(crew, proxy, pair, files, clocks, plan.lease)
                return await _fight(plan, field, Witness(pair.dsn, crew, files), tell)
            finally:
                crew.end()
                await proxy.stop()
        finally:
            pooler.end()
            await asyncio.to_thread(pair.end)


async def _prepare(plan: Plan, dsn: Secret) -> None:
    await migrated(dsn.reveal())
    with psycopg.connect(dsn.reveal(), autocommit=True) as sql:
        sql.execute(TABLES)
        sql.execute(FULL)
        if plan.breaks("tick"):
            sql.execute("DROP INDEX pillars.jobs_tick")
            sql.execute("CREATE INDEX jobs_tick ON pillars.jobs (schedule_id, fire_at)")


def _crew(plan: Plan, directory: Path, pair: Pair, pooler: Pooler, port: int) -> Crew:
    settings = {
        "PILLARS_DATABASE_URL": (pooler if plan.pooler else pair).dsn.reveal(),
        "PILLARS_SCHEDULES_DIR": str(directory / "schedules"),
        "PILLARS_APP": "ops.chaos.work:app",
        "PILLARS_LOG": "json",
        "PILLARS_LEASE": str(plan.lease),
        "PILLARS_LOOKAHEAD": str(plan.lookahead),
    }
    if plan.pooler == "listen":
        settings["PILLARS_DIRECT_DATABASE_URL"] = pair.dsn.reveal()
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
    members = len(names) if plan.membership else len(names) - plan.crons
    given = loads(plan.schedules, plan.each_second)
    began = await _until(dsn, _MEMBERS, members) and await _until(dsn, _APPLIED, len(given))
    if not began:
        raise NemesisError("the processes did not start:\n" + _last_words(crew))
    with psycopg.connect(dsn.reveal(), autocommit=True) as sql:
        created = gathered.read_created(sql)

    looking = asyncio.create_task(witness.look())
    await _harm(plan, field, witness, tell)
    tell("coming to rest", 1.0)
    unsettled = [*field.unsettled, *await _settle(dsn, members, plan)]
    # Whether it came into force is I2's question.
    await _until(dsn, _EDITION, field.files.edition)
    with psycopg.connect(dsn.reveal(), autocommit=True) as sql:
        ((until,),) = sql.execute(NOW).fetchall()
        if not await _until(dsn, _OPEN, 0, (until,)):
            unsettled.append("every due job ended")
        owners = tuple(owner for (owner,) in sql.execute(_OWNERS).fetchall())
        ring = gathered.Ring(owners, frozenset(cron for (cron,) in sql.execute(_CRONS).fetchall()))
        rows = gathered.read_rows(sql)
    unsettled += [*await _ended([looking]), *witness.refused]
    tell("stopping", 1.0)
    await crew.stop(crew.alive())

    with psycopg.connect(dsn.reveal(), autocommit=True) as sql:
        return gathered.Evidence(
            lease=plan.lease,
            until=until,
            loads=given,
            created=created,
            created_at_rest=gathered.read_created(sql),
            jobs=gathered.read_jobs(sql),
            runs=gathered.read_runs(sql),
            ring=ring,
            ring_log=gathered.read_ring_log(sql),
            lines=gathered.read_lines(crew, field.clocks),
            deeds=field.deeds,
            acknowledged=witness.acknowledged,
            paused=witness.paused,
            backfilled=witness.backfilled,
            edition=field.files.edition,
            in_force=gathered.read_editions(sql),
            pins=witness.pins,
            sessions=witness.sessions,
            memory=dict(witness.memory),
            clocks=field.clocks.history,
            rows=rows,
            processes=len(names),
            exits=crew.exits,
            unsettled=tuple(unsettled),
            membership=plan.membership,
        )


async def _harm(plan: Plan, field: Field, witness: Witness, tell: Tell) -> None:
    verbs = [witness.trickle, witness.reload]
    # What the witness does with schedules itself is whole, and needs the index that is dropped.
    verbs += [] if plan.breaks("tick") else [witness.edit, witness.backfill]
    background = [asyncio.create_task(verb()) for verb in verbs]
    if plan.together:
        lanes = sorted(set(LANES.values()))
        await asyncio.gather(*(_harm_lane(plan, field, lane, tell) for lane in lanes))
    else:
        await _harm_lane(plan, field, "", tell)
    field.unsettled += await _ended(background)


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> list[str]:
    """Cancel what goes on until then; return what had ended before its time."""
    for task in tasks:
        task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    return [f"the witness went on: {each!r}" for each in found if isinstance(each, Exception)]


async def _harm_lane(plan: Plan, field: Field, lane: str, tell: Tell) -> None:
    """Do faults one after the other; those of one lane, or any."""
    began = time.monotonic()
    seed = f"{plan.seed} {lane}" if lane else plan.seed
    chances = [random.Random(seed) for _ in range(2)]  # noqa: S311 - to be repeated
    faults = [fault for fault in plan.faults if lane in {"", LANES[fault]}]
    ground = replace(field, chance=chances[0], lane=lane)
    for fault, pause in deck(chances[1], faults, LONG_PAUSE if lane else PAUSE):
        tell("waiting", (time.monotonic() - began) / plan.seconds)
        await asyncio.sleep(pause)
        if time.monotonic() - began >= plan.seconds:
            break
        tell(fault, (time.monotonic() - began) / plan.seconds)
        try:
            await FAULTS[fault](ground)
        except (psycopg.Error, OSError, LookupError, PairError, EmbeddedError) as error:
            # What was found so far is worth more than the rest. A time limit is an OSError.
            field.unsettled.append(f"{fault} could be done: {error!r}")


async def _settle(dsn: Secret, members: int, plan: Plan) -> list[str]:
    """Wait until the cluster is at rest; return what never came to pass."""
    unsettled = []
    if not await _until(dsn, _MEMBERS, members):
        unsettled.append("all processes are members")
    if plan.membership and not await _until(dsn, _SHARING, plan.crons):
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


def _last_words(crew: Crew) -> str:
    texts = [(each.id, each.log.read_text(errors="replace")[-500:]) for each in crew.past]
    return "\n".join(f"{name}: {text}" for name, text in texts)
