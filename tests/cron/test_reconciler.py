from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from pillars.cron import reconciler, turn
from pillars.cron.book import list_schedules, put
from pillars.cron.changes import lock_book
from pillars.cron.code import CodeSchedules, load_set
from pillars.cron.definition import parse_schedule
from pillars.cron.files import load_directory
from pillars.cron.life import remove
from pillars.cron.reconciler import (
    LOOK_EVERY,
    LOOKS,
    WAIT_EVERY,
    Reconciler,
    apply_now,
)
from pillars.cron.turn import HalfASetError
from pillars.ground.events import (
    SchedulesApplied,
    SchedulesRefused,
    SchedulesWaiting,
    SchedulesWarned,
)
from tests.helpers import RecordingListener

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from pillars.cron.files import ScheduleSet
    from pillars.db.database import Database

LEASE = 60.0
OLD, NEW = ("a",), ("a", "b")


@dataclass
class Replica:
    """One cron's view: a directory of its own, a row in members, and what it was told."""

    directory: Path
    reconciler: Reconciler
    events: RecordingListener
    member_id: UUID
    held: list[str] = field(default_factory=list)

    def write(self, names: tuple[str, ...], file: str = "a.yaml") -> None:
        """Write a file that differs from the one before in its time at least."""
        self.write_text(
            "schedules:\n" + "".join(f"  - {{name: {n}, every: 1h, job: noop}}\n" for n in names),
            file,
        )

    def write_text(self, text: str, file: str = "a.yaml") -> None:
        self.directory.mkdir(exist_ok=True)
        path = self.directory / file
        before = path.stat().st_mtime_ns if path.exists() else 1_900_000_000 * 10**9
        path.write_text(text)
        os.utime(path, ns=(before + 10**9, before + 10**9))

    async def look_twice(self) -> None:
        """See a change, and see that it is complete."""
        await self.reconciler.step()
        await self.reconciler.step()


class Cluster:
    """Makes replicas."""

    def __init__(self, database: Database, sql: psycopg.Connection[Any], tmp_path: Path) -> None:
        self._database = database
        self._sql = sql
        self._tmp_path = tmp_path
        self._count = 0

    def start(
        self,
        names: tuple[str, ...] | None = None,
        revision: int | None = None,
        code: tuple[str, ...] | None = None,
    ) -> Replica:
        """Add a live cron.

        `names` are the schedules of its directory, None for no directory; `code` those of its
        application, None for no application.
        """
        self._count += 1
        name = f"cron-{self._count}"
        member_id = uuid4()
        self._sql.execute(
            "INSERT INTO pillars.members (id, role, name, state, pid, app_version)"
            " VALUES (%s, 'cron', %s, 'active', 1, '0')",
            (member_id, name),
        )
        held: list[str] = []

        def holds(digest: str) -> None:
            held.append(digest)
            self._sql.execute(
                "UPDATE pillars.members SET schedules_digest = %s WHERE id = %s",
                (digest, member_id),
            )

        events = RecordingListener()
        directory = self._tmp_path / name
        reconciler = Reconciler(
            self._database.link(name),
            directory,
            None if code is None else in_code(*code),
            revision=revision,
            applied_by=name,
            member_id=lambda: member_id,
            lease=LEASE,
            holds=holds,
            emit=events,
        )
        replica = Replica(directory, reconciler, events, member_id, held)
        if names is not None:
            replica.write(names)
        return replica

    def kill(self, replica: Replica) -> None:
        """Let a replica be silent for so long that it is expelled."""
        self.wait()
        self._sql.execute("DELETE FROM pillars.members WHERE id = %s", (replica.member_id,))

    def outage(self) -> None:
        """Let the database have been away for longer than the lease; nobody has beaten again."""
        self.wait()
        self._sql.execute(
            "UPDATE pillars.members SET heartbeat_at = heartbeat_at - interval '61 seconds'"
        )

    def wait(self) -> None:
        """Let more than a lease have passed since a set came into force."""
        self._sql.execute(
            "UPDATE pillars.schedule_sets SET applied_at = applied_at - interval '61 seconds'"
        )

    def sets(self) -> list[tuple[str, int]]:
        """Who applied sets, and how many schedules they had, in order."""
        return self._sql.execute(
            "SELECT applied_by, schedules FROM pillars.schedule_sets ORDER BY sequence"
        ).fetchall()


@pytest.fixture
def cluster(database: Database, sql: psycopg.Connection[Any], tmp_path: Path) -> Cluster:
    return Cluster(database, sql, tmp_path)


def in_code(*names: str) -> ScheduleSet:
    code = CodeSchedules()
    for name in names:
        code.add(name, {"every": "1h", "job": "noop"}, "jobs:1")
    return code.read(lambda _: (), lambda _: None)


async def names(database: Database) -> tuple[str, ...]:
    return tuple(record.name for record in await list_schedules(database))


async def test_the_first_look_applies_the_files(cluster: Cluster, database: Database) -> None:
    cron = cluster.start(NEW)

    assert await cron.reconciler.step() == LOOK_EVERY

    assert await names(database) == NEW
    (event,) = cron.events.of(SchedulesApplied)
    assert (event.added, event.changed, event.removed, event.total) == (2, 0, 0, 2)
    assert (event.sequence, event.names) == (1, NEW)
    assert cron.held == [event.digest] == [load_directory(cron.directory).digest]


async def test_a_set_is_applied_once_though_two_replicas_look(cluster: Cluster) -> None:
    first, second = cluster.start(NEW), cluster.start(NEW)

    await asyncio.gather(first.reconciler.step(), second.reconciler.step())
    # Whoever came second may have found the book held, and looks again.
    await asyncio.gather(first.reconciler.step(), second.reconciler.step())

    assert len(cluster.sets()) == 1
    assert len(first.events.events + second.events.events) == 1
    assert first.held == second.held
    assert len(first.held) == 1


async def test_while_somebody_holds_the_book_a_replica_waits_and_says_nothing(
    cluster: Cluster, database: Database
) -> None:
    cron = cluster.start(NEW)

    async with database.transaction() as connection:
        await lock_book(connection)
        assert await cron.reconciler.step() == WAIT_EVERY

    assert (cluster.sets(), cron.events.events) == ([], [])
    await cron.reconciler.step()
    assert cluster.sets() == [("cron-1", 2)]


async def test_a_replica_that_stood_still_over_its_reading_undoes_nothing(
    cluster: Cluster, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = cluster.start(OLD), cluster.start(OLD)
    await slow.reconciler.step()
    await quick.reconciler.step()
    loop = asyncio.get_running_loop()

    def read_and_stand_still(directory: Path, code: ScheduleSet | None) -> ScheduleSet:
        found = load_set(directory, code)
        monkeypatch.setattr(turn, "load_set", load_set)
        for replica in (slow, quick):
            replica.write(NEW)
        asyncio.run_coroutine_threadsafe(quick.look_twice(), loop).result()
        return found

    monkeypatch.setattr(turn, "load_set", read_and_stand_still)
    slow.write(("between",))

    await slow.look_twice()

    assert await names(database) == NEW
    await slow.look_twice()
    assert cluster.sets() == [("cron-1", 1), ("cron-2", 2)]
    assert slow.held[-1] == quick.held[-1]


async def test_order_and_comments_make_no_other_set(cluster: Cluster) -> None:
    first, second = cluster.start(("a", "b")), cluster.start(("b", "a"))
    second.write_text("# nothing but a remark\n", "remark.yaml")

    await first.reconciler.step()
    await second.reconciler.step()

    assert len(cluster.sets()) == 1
    assert first.held == second.held


async def test_files_that_stay_as_they_are_are_not_applied_again(
    cluster: Cluster, database: Database
) -> None:
    cron = cluster.start(NEW)
    await cron.reconciler.step()
    async with database.connection() as connection:
        await connection.execute("DELETE FROM pillars.schedules")

    for _ in range(3):
        assert await cron.reconciler.step() == LOOK_EVERY

    assert await names(database) == ()


async def test_a_change_is_applied_once_two_looks_agree(
    cluster: Cluster, database: Database
) -> None:
    cron = cluster.start(OLD)
    await cron.reconciler.step()

    cron.write(("a", "half"))
    await cron.reconciler.step()
    assert await names(database) == OLD

    cron.write(NEW)
    await cron.reconciler.step()
    assert await names(database) == OLD

    await cron.reconciler.step()
    assert await names(database) == NEW
    assert len(cron.held) == 2


async def test_a_file_that_comes_or_goes_is_a_change(cluster: Cluster, database: Database) -> None:
    cron = cluster.start(OLD)
    await cron.reconciler.step()

    cron.write(("b",), "b.yaml")
    await cron.look_twice()
    assert await names(database) == ("a", "b")

    (cron.directory / "a.yaml").unlink()
    await cron.look_twice()
    assert await names(database) == ("b",)


async def test_a_faulty_file_changes_nothing_and_is_told_once(
    cluster: Cluster, database: Database
) -> None:
    cron = cluster.start(OLD)
    await cron.reconciler.step()

    cron.write(("b",), "good.yaml")
    cron.write_text("schedules:\n  - {name: x, evry: 1h, job: noop}\n", "bad.yaml")
    for _ in range(5):
        await cron.reconciler.step()

    assert await names(database) == OLD
    (refused,) = cron.events.of(SchedulesRefused)
    assert refused.faults == (
        f"{cron.directory}/bad.yaml:2:5: give one of cron, every and at",
        f"{cron.directory}/bad.yaml:2:15: unknown key 'evry', did you mean 'every'?",
    )

    (cron.directory / "bad.yaml").unlink()
    await cron.look_twice()
    assert await names(database) == NEW


async def test_a_faulty_file_at_the_start_keeps_what_is_in_force_until_it_is_mended(
    cluster: Cluster, database: Database
) -> None:
    await cluster.start(OLD).reconciler.step()
    cron = cluster.start()
    cron.write_text("schedules: {}\n")

    await cron.look_twice()
    assert await names(database) == OLD
    assert len(cron.events.of(SchedulesRefused)) == 1
    assert cron.held == []

    cron.write(NEW)
    await cron.look_twice()
    assert await names(database) == NEW


async def test_a_directory_that_is_emptied_or_vanishes_deletes_no_schedule(
    cluster: Cluster, database: Database
) -> None:
    cron = cluster.start(NEW)
    await cron.reconciler.step()

    (cron.directory / "a.yaml").unlink()
    for _ in range(3):
        await cron.reconciler.step()
    assert await names(database) == NEW
    assert [event.faults for event in cron.events.of(SchedulesRefused)] == [
        (f"{cron.directory} holds no .yaml file: the schedules in the database stay in force",),
    ]

    cron.directory.rmdir()
    for _ in range(3):
        await cron.reconciler.step()
    assert await names(database) == NEW
    assert [event.faults for event in cron.events.of(SchedulesRefused)][1:] == [
        (f"{cron.directory}: there is no such directory",),
    ]


async def test_a_cron_without_a_directory_waits_for_one(
    cluster: Cluster, database: Database
) -> None:
    cron = cluster.start()
    await cron.look_twice()
    assert await names(database) == ()

    cron.write(NEW)
    await cron.look_twice()

    assert await names(database) == NEW


async def test_files_that_mean_to_hold_no_schedule_remove_all(
    cluster: Cluster, database: Database
) -> None:
    cron = cluster.start(NEW)
    await cron.reconciler.step()

    cron.write_text("schedules: []\n")
    await cron.look_twice()

    assert await names(database) == ()


async def test_a_name_that_the_api_owns_refuses_the_set_and_is_told_once(
    cluster: Cluster, database: Database, sql: psycopg.Connection[Any]
) -> None:
    cron = cluster.start(OLD)
    await cron.reconciler.step()
    sql.execute("UPDATE pillars.schedules SET source = 'api'")

    cron.write(NEW)
    for _ in range(4):
        await cron.reconciler.step()

    assert await names(database) == OLD
    (refused,) = cron.events.of(SchedulesRefused)
    assert refused.faults[0].startswith("a.yaml:2: schedule 'a' was made by api: rename it here")
    assert len(cron.held) == 1


async def test_what_is_legal_and_suspicious_is_applied_with_a_warning(
    cluster: Cluster, database: Database
) -> None:
    cron = cluster.start()
    cron.write_text('schedules:\n  - {name: a, cron: "0 0 13 * fri", job: noop}\n')

    await cron.reconciler.step()

    assert await names(database) == ("a",)
    (warned,) = cron.events.of(SchedulesWarned)
    assert warned.warnings[0].startswith(f"{cron.directory}/a.yaml:2:")


# ---- roll-out and roll-back


async def rolled_out(cluster: Cluster) -> Replica:
    """A cluster in which NEW superseded OLD; returns the live cron that holds NEW."""
    before = cluster.start(OLD)
    await before.reconciler.step()
    cluster.kill(before)
    newer = cluster.start(NEW)
    await newer.reconciler.step()
    return newer


async def test_a_replica_that_starts_with_a_new_set_applies_it_at_once(
    cluster: Cluster, database: Database
) -> None:
    old = cluster.start(OLD)
    await old.reconciler.step()

    await cluster.start(NEW).reconciler.step()
    await old.look_twice()

    assert await names(database) == NEW
    assert cluster.sets() == [("cron-1", 1), ("cron-2", 2)]


async def test_a_superseded_set_waits_while_a_live_cron_holds_the_newer_one(
    cluster: Cluster, database: Database
) -> None:
    newer = await rolled_out(cluster)

    old = cluster.start(OLD)
    for _ in range(3):
        assert await old.reconciler.step() == WAIT_EVERY

    assert await names(database) == NEW
    (waiting,) = old.events.of(SchedulesWaiting)
    assert (waiting.current_digest, waiting.holders) == (newer.held[0], 1)
    assert old.held == []


async def test_a_superseded_set_is_applied_when_no_live_cron_holds_the_newer_one(
    cluster: Cluster, database: Database
) -> None:
    newer = await rolled_out(cluster)
    old = cluster.start(OLD)
    await old.reconciler.step()

    cluster.kill(newer)
    assert await old.reconciler.step() == LOOK_EVERY

    assert await names(database) == OLD
    assert cluster.sets() == [("cron-1", 1), ("cron-2", 2), ("cron-3", 1)]
    assert len(old.held) == 1


async def test_a_replica_that_waits_and_is_the_first_to_move_after_an_outage_rolls_nothing_back(
    cluster: Cluster, database: Database
) -> None:
    await rolled_out(cluster)
    old = cluster.start(OLD)
    await old.reconciler.step()

    cluster.outage()
    assert await old.reconciler.step() == WAIT_EVERY

    assert await names(database) == NEW


async def test_who_puts_a_set_into_force_holds_it_before_the_next_heartbeat(
    cluster: Cluster, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cluster.start(OLD)
    await first.reconciler.step()
    monkeypatch.setattr(first.reconciler, "_holds", lambda _: None)
    first.write(NEW)
    await first.look_twice()

    cluster.outage()
    assert await cluster.start(OLD).reconciler.step() == WAIT_EVERY

    assert await names(database) == NEW


async def test_a_directory_that_came_late_with_a_superseded_set_rolls_nothing_back(
    cluster: Cluster, database: Database
) -> None:
    await rolled_out(cluster)
    late, mended = cluster.start(), cluster.start()
    mended.write_text("schedules: 3\n")
    for old in (late, mended):
        await old.reconciler.step()

        old.write(OLD)
        await old.look_twice()

        assert await names(database) == NEW
        assert len(old.events.of(SchedulesWaiting)) == 1


async def test_a_replica_that_waits_warns_of_its_files_once(
    cluster: Cluster, database: Database
) -> None:
    newer = cluster.start(NEW, revision=2)
    await newer.reconciler.step()
    old = cluster.start(revision=1)
    old.write_text('schedules:\n  - {name: a, cron: "0 0 13 * fri", job: noop}\n')

    for _ in range(3):
        await old.reconciler.step()

    assert len(old.events.of(SchedulesWarned)) == 1
    assert await names(database) == NEW


async def test_a_replica_that_waits_takes_part_once_its_files_are_the_newer_ones(
    cluster: Cluster,
) -> None:
    newer = await rolled_out(cluster)
    old = cluster.start(OLD)
    await old.reconciler.step()

    old.write(NEW)
    await old.look_twice()

    assert old.held == newer.held
    assert len(cluster.sets()) == 2


async def test_files_that_change_under_a_running_replica_are_applied_even_if_superseded(
    cluster: Cluster, database: Database
) -> None:
    newer = await rolled_out(cluster)
    other = cluster.start(NEW)
    await other.reconciler.step()

    newer.write(OLD)
    await newer.look_twice()

    assert await names(database) == OLD


async def test_a_higher_revision_wins_and_a_lower_one_waits(
    cluster: Cluster, database: Database
) -> None:
    await cluster.start(OLD, revision=10).reconciler.step()

    lower = cluster.start(NEW, revision=9)
    assert await lower.reconciler.step() == WAIT_EVERY
    assert await names(database) == OLD

    higher = cluster.start(("c",), revision=11)
    assert await higher.reconciler.step() == LOOK_EVERY
    assert await names(database) == ("c",)


async def test_a_lower_revision_waits_even_when_no_other_cron_lives(
    cluster: Cluster, database: Database
) -> None:
    newer = cluster.start(NEW, revision=2)
    await newer.reconciler.step()
    cluster.kill(newer)

    old = cluster.start(OLD, revision=1)
    assert await old.reconciler.step() == WAIT_EVERY

    assert await names(database) == NEW


async def test_the_same_set_under_a_lower_revision_is_in_force_all_the_same(
    cluster: Cluster,
) -> None:
    await cluster.start(NEW, revision=2).reconciler.step()

    other = cluster.start(NEW, revision=1)
    assert await other.reconciler.step() == LOOK_EVERY

    assert len(other.held) == 1


async def test_sets_of_one_revision_are_ordered_as_if_there_was_none(
    cluster: Cluster, database: Database
) -> None:
    await cluster.start(OLD, revision=1).reconciler.step()

    await cluster.start(NEW, revision=1).reconciler.step()
    again = cluster.start(OLD, revision=1)
    assert await again.reconciler.step() == WAIT_EVERY

    assert await names(database) == NEW


async def test_apply_now_asks_nobody(cluster: Cluster, database: Database) -> None:
    await rolled_out(cluster)
    old = cluster.start(OLD)

    event = await apply_now(database, load_directory(old.directory), None, "somebody")

    assert (event.removed, event.total) == (1, 1)
    assert await names(database) == OLD
    assert cluster.sets()[-1] == ("somebody", 1)


# ---- schedules in code


async def sources(database: Database) -> dict[str, str]:
    return {record.name: record.source for record in await list_schedules(database)}


async def test_files_and_code_are_applied_as_one_set(cluster: Cluster, database: Database) -> None:
    cron = cluster.start(OLD, code=("c",))

    assert await cron.reconciler.step() == LOOK_EVERY

    assert await sources(database) == {"a": "file", "c": "code"}
    assert cluster.sets() == [("cron-1", 2)]
    assert len(cron.held) == 1


async def test_code_that_no_longer_has_a_schedule_removes_it(
    cluster: Cluster, database: Database
) -> None:
    await cluster.start(OLD, code=("c", "d")).reconciler.step()

    await cluster.start(OLD, code=("d",)).reconciler.step()
    assert await sources(database) == {"a": "file", "d": "code"}

    await cluster.start(OLD, code=()).reconciler.step()
    assert await sources(database) == {"a": "file"}


async def test_old_code_that_starts_during_a_roll_out_rolls_nothing_back(
    cluster: Cluster, database: Database
) -> None:
    before = cluster.start(OLD, code=("c",))
    await before.reconciler.step()
    cluster.kill(before)
    newer = cluster.start(OLD, code=("c", "new"))
    await newer.reconciler.step()

    old = cluster.start(OLD, code=("c",))
    assert await old.reconciler.step() == WAIT_EVERY
    assert set(await names(database)) == {"a", "c", "new"}

    cluster.kill(newer)
    assert await old.reconciler.step() == LOOK_EVERY
    assert set(await names(database)) == {"a", "c"}


async def test_crons_with_and_without_the_application_do_not_undo_each_other(
    cluster: Cluster, sql: psycopg.Connection[Any]
) -> None:
    knowing = cluster.start(OLD, code=("c",))
    await knowing.reconciler.step()
    before = sql.execute("SELECT * FROM pillars.schedules ORDER BY id").fetchall()

    unknowing = cluster.start(NEW)
    for _ in range(3):
        assert await unknowing.reconciler.step() == WAIT_EVERY
        assert await knowing.reconciler.step() == LOOK_EVERY
    assert await cluster.start(OLD, code=("c",)).reconciler.step() == LOOK_EVERY

    assert sql.execute("SELECT * FROM pillars.schedules ORDER BY id").fetchall() == before
    assert cluster.sets() == [("cron-1", 2)]
    (refused,) = unknowing.events.of(SchedulesRefused)
    assert "--app or PILLARS_APP" in refused.faults[0]
    assert unknowing.held == []


async def test_a_cron_without_the_application_takes_part_where_no_schedule_is_in_code(
    cluster: Cluster, database: Database
) -> None:
    with_app = cluster.start(OLD, code=())
    await with_app.reconciler.step()

    without = cluster.start(OLD)
    assert await without.reconciler.step() == LOOK_EVERY
    assert without.held == with_app.held
    without.write(NEW)
    await without.look_twice()

    assert await names(database) == NEW


async def test_a_cron_without_the_application_goes_on_once_the_last_schedule_in_code_is_gone(
    cluster: Cluster, database: Database
) -> None:
    await cluster.start(OLD, code=("c",)).reconciler.step()
    unknowing = cluster.start(NEW)
    await unknowing.reconciler.step()

    await remove(database, "c")

    assert await unknowing.reconciler.step() == LOOK_EVERY
    assert await names(database) == NEW


@pytest.mark.parametrize("moves_to", ["code", "file"])
async def test_a_schedule_that_moves_between_file_and_code_is_neither_removed_nor_changed(
    cluster: Cluster, database: Database, sql: psycopg.Connection[Any], moves_to: str
) -> None:
    places = [("a",), ()] if moves_to == "code" else [(), ("a",)]
    (file, code), (new_file, new_code) = places, reversed(places)
    await cluster.start(file, code=code).reconciler.step()
    before = sql.execute("SELECT id, version, next_fire_at FROM pillars.schedules").fetchall()

    await cluster.start(new_file, code=new_code).reconciler.step()

    assert await sources(database) == {"a": moves_to}
    after = sql.execute("SELECT id, version, next_fire_at FROM pillars.schedules").fetchall()
    assert after == before


async def test_code_alone_is_a_set_where_there_are_no_files(
    cluster: Cluster, database: Database
) -> None:
    await cluster.start(code=("c", "d")).reconciler.step()
    assert await sources(database) == {"c": "code", "d": "code"}

    await cluster.start((), code=()).reconciler.step()
    assert await sources(database) == {}


async def test_a_directory_that_lost_its_files_deletes_none_of_them_for_an_application(
    cluster: Cluster, database: Database
) -> None:
    await cluster.start(OLD, code=("c",)).reconciler.step()

    lost = cluster.start(code=("c", "d"))
    for _ in range(2):
        assert await lost.reconciler.step() == WAIT_EVERY

    assert await sources(database) == {"a": "file", "c": "code"}
    (refused,) = lost.events.of(SchedulesRefused)
    assert "there is no .yaml file" in refused.faults[0]


async def test_faulty_files_hold_up_the_code_beside_them(
    cluster: Cluster, database: Database
) -> None:
    cron = cluster.start(code=("c",))
    cron.write_text("schedules: 3\n")

    await cron.reconciler.step()

    assert await names(database) == ()
    assert len(cron.events.of(SchedulesRefused)) == 1


async def test_a_set_without_the_application_cannot_be_forced_either(
    cluster: Cluster, database: Database
) -> None:
    cron = cluster.start(OLD, code=("c",))
    await cron.reconciler.step()

    with pytest.raises(HalfASetError, match="--app"):
        await apply_now(database, load_directory(cron.directory), None, "somebody")

    assert len(await names(database)) == 2


async def test_a_name_of_the_apis_in_code_is_a_conflict(
    cluster: Cluster, database: Database
) -> None:
    async with database.transaction() as connection:
        await put(connection, [parse_schedule({"name": "c", "every": "1h", "job": "noop"})])
    cron = cluster.start(OLD, code=("c",))

    await cron.reconciler.step()

    (refused,) = cron.events.of(SchedulesRefused)
    assert refused.faults[0].startswith("jobs:1: schedule 'c' was made by api: rename it here")
    assert await sources(database) == {"c": "api"}


# ---- large sets


@pytest.fixture
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "LARGE", 1)


@pytest.mark.usefixtures("all_are_large")
async def test_a_large_set_is_applied_by_a_process_of_its_own(
    cluster: Cluster, database: Database
) -> None:
    cron = cluster.start(NEW, code=("c",))

    assert await cron.reconciler.step() == LOOK_EVERY

    assert await names(database) == (*NEW, "c")
    (event,) = cron.events.of(SchedulesApplied)
    assert (event.total, cron.held) == (3, [event.digest])
    assert cluster.sets() == [("cron-1", 3)]


@pytest.mark.usefixtures("all_are_large")
async def test_faults_of_a_large_set_are_told_by_the_replica_that_has_it(cluster: Cluster) -> None:
    cron = cluster.start(NEW)
    cron.write_text("schedules:\n  - {name: a, evry: 1h, job: noop}\n")

    await cron.look_twice()

    (event,) = cron.events.of(SchedulesRefused)
    assert any("did you mean 'every'" in fault for fault in event.faults)


@pytest.mark.usefixtures("all_are_large")
async def test_a_large_set_that_is_in_force_is_known_by_its_texts_and_not_read(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cluster.start(NEW)
    await first.reconciler.step()
    second = cluster.start(NEW)

    async def never(*_: object) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(reconciler, "call_elsewhere", never)
    await second.reconciler.step()

    assert second.held == first.held
    assert second.events.events == []


@pytest.mark.usefixtures("all_are_large")
async def test_a_large_set_that_was_superseded_waits_like_any_other(cluster: Cluster) -> None:
    old = cluster.start(OLD)
    await old.reconciler.step()
    new = cluster.start(NEW)
    await new.reconciler.step()
    restarted = cluster.start(OLD)

    assert await restarted.reconciler.step() == WAIT_EVERY
    with pytest.MonkeyPatch.context() as patch:
        # It is not read again while it waits.
        patch.setattr(sys, "executable", "false")
        assert await restarted.reconciler.step() == WAIT_EVERY

    assert len(restarted.events.of(SchedulesWaiting)) == 1
    assert [count for _, count in cluster.sets()] == [1, 2]
    cluster.kill(new)
    assert await restarted.reconciler.step() == LOOK_EVERY
    assert [count for _, count in cluster.sets()] == [1, 2, 1]


@pytest.mark.usefixtures("all_are_large")
async def test_a_large_set_without_the_code_that_is_in_force_is_not_read_again_and_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cluster.start(NEW, code=("c",))
    await whole.reconciler.step()
    half = cluster.start(OLD)

    assert await half.reconciler.step() == WAIT_EVERY
    monkeypatch.setattr(sys, "executable", "false")
    assert await half.reconciler.step() == WAIT_EVERY

    assert len(half.events.of(SchedulesRefused)) == 1


@pytest.mark.usefixtures("all_are_large")
async def test_a_process_that_ends_without_an_answer_is_an_error_of_the_step(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cron = cluster.start(NEW)
    monkeypatch.setattr(sys, "executable", "false")

    with pytest.raises(RuntimeError, match="ended with 1"):
        await cron.reconciler.step()

    monkeypatch.undo()
    await cron.reconciler.step()
    assert cluster.sets() == [("cron-1", 2)]


async def test_what_just_came_into_force_counts_as_held_though_nobody_has_said_so_yet(
    cluster: Cluster, database: Database, sql: psycopg.Connection[Any]
) -> None:
    first, late = cluster.start(OLD), cluster.start(OLD)
    await first.reconciler.step()
    first.write(NEW)
    await first.look_twice()
    # As until the next heartbeat.
    sql.execute("UPDATE pillars.members SET schedules_digest = NULL")

    assert await late.reconciler.step() == WAIT_EVERY
    assert await names(database) == NEW

    cluster.wait()
    assert await late.reconciler.step() == LOOK_EVERY
    assert await names(database) == OLD


# ---- a database that went back


async def test_a_set_that_the_database_forgot_is_put_into_force_again(
    cluster: Cluster, database: Database, sql: psycopg.Connection[Any]
) -> None:
    cron = cluster.start(OLD)
    await cron.reconciler.step()
    cron.write(NEW)
    await cron.look_twice()
    # As a standby that was promoted without the last moments.
    sql.execute("DELETE FROM pillars.schedules WHERE name = 'b'")
    sql.execute("DELETE FROM pillars.schedule_sets WHERE schedules = 2")

    for _ in range(LOOKS):
        await cron.reconciler.step()

    assert await names(database) == NEW
    assert cluster.sets() == [("cron-1", 1), ("cron-1", 2)]


async def test_a_set_that_another_replaced_is_not_taken_for_forgotten(
    cluster: Cluster, database: Database
) -> None:
    one, two = cluster.start(OLD), cluster.start(NEW)
    await one.reconciler.step()
    await two.reconciler.step()

    for _ in range(2 * LOOKS):
        await one.reconciler.step()

    assert await names(database) == NEW


async def test_old_records_are_deleted_and_who_holds_such_a_set_does_not_put_it_into_force_again(
    cluster: Cluster, database: Database, sql: psycopg.Connection[Any]
) -> None:
    one = cluster.start(OLD)
    await one.reconciler.step()
    sql.execute("SELECT setval(pg_get_serial_sequence('pillars.schedule_sets', 'sequence'), 10000)")

    await cluster.start(NEW).reconciler.step()
    assert cluster.sets() == [("cron-2", 2)]
    for _ in range(2 * LOOKS):
        await one.reconciler.step()

    assert await names(database) == NEW


@pytest.mark.usefixtures("all_are_large")
async def test_a_large_set_that_found_the_book_held_is_read_again_when_it_is_free(
    cluster: Cluster, database: Database
) -> None:
    cron = cluster.start(NEW)

    async with database.transaction() as connection:
        await lock_book(connection)
        assert await cron.reconciler.step() == WAIT_EVERY
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "executable", "false")
            assert await cron.reconciler.step() == WAIT_EVERY

    assert await cron.reconciler.step() == LOOK_EVERY
    assert cluster.sets() == [("cron-1", 2)]
