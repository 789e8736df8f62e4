from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from pillars.ground.events import (
    ClockMeasured,
    Events,
    HeartbeatSent,
    JobFinished,
    JobLost,
    JobsClaimed,
    JobsEnqueued,
    JobsFinished,
    LoopFailed,
    MemberJoined,
    MembershipLost,
    PassCompleted,
    RequestServed,
    RingMoved,
    RingSeen,
    SlotsUsed,
    StatementRun,
    TicksFired,
)
from pillars.telemetry.catalog import METRICS, Kind, markdown_table
from pillars.telemetry.families import LABEL_LIMIT, Buckets
from pillars.telemetry.metrics import PAIR_LIMIT, Metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTRACT = {
    "pillars_cron_fires_total": ("outcome",),
    "pillars_cron_lateness_seconds": (),
    "pillars_cron_owned_slots": (),
    "pillars_cron_owned_schedules": (),
    "pillars_cron_overdue_schedules": (),
    "pillars_cron_pass_seconds": (),
    "pillars_cron_last_pass_timestamp_seconds": (),
    "pillars_cron_swept_fires_total": (),
    "pillars_cron_lost_races_total": (),
    "pillars_ring_version": (),
    "pillars_ring_moves_total": ("reason",),
    "pillars_members": ("role",),
    "pillars_heartbeat_seconds": (),
    "pillars_clock_offset_seconds": (),
    "pillars_jobs_enqueued_total": ("queue",),
    "pillars_jobs_finished_total": ("queue", "type", "outcome"),
    "pillars_job_duration_seconds": ("queue", "type"),
    "pillars_job_start_delay_seconds": ("queue",),
    "pillars_worker_slots": ("state",),
    "pillars_queue_depth": ("queue", "state"),
    "pillars_queue_oldest_seconds": ("queue",),
    "pillars_http_requests_total": ("method", "route", "status"),
    "pillars_http_request_seconds": ("method", "route"),
    "pillars_db_oldest_xmin_age_seconds": (),
    "pillars_db_dead_tuples": ("table",),
    "pillars_build_info": ("version", "role"),
}
ROLES = ("server", "worker", "cron")


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def cron(events: Events) -> Metrics:
    return Metrics(events, "cron", wall=lambda: 1_800_000_000.0)


@pytest.fixture
def worker(events: Events) -> Metrics:
    return Metrics(events, "worker")


@pytest.fixture
def server(events: Events) -> Metrics:
    return Metrics(events, "server")


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def exported(metrics: Metrics) -> set[str]:
    text, _ = metrics.render()
    return {
        line.split()[2] for line in text.decode().splitlines() if line.startswith("# HELP pillars_")
    }


def series(metrics: Metrics, name: str) -> int:
    text, _ = metrics.render()
    return sum(line.startswith(f"{name}{{") for line in text.decode().splitlines())


def finished(
    type: str = "mail",  # noqa: A002 - the field's name
    queue: str = "default",
    outcome: str = "succeeded",
) -> JobsFinished:
    return JobsFinished((JobFinished(1, type, queue, 1, outcome, 0.5, None, None, None),))


def ticks(lateness: Sequence[float] = (), *, swept: bool = False, **counts: int) -> TicksFired:
    return TicksFired(
        schedules=1,
        outcomes=counts,
        lateness=tuple(lateness),
        lost_races=2,
        swept=swept,
        queues={"mail": counts.get("enqueued", 0)},
    )


# ---- the catalog


def test_every_metric_of_the_contract_is_in_the_table_with_its_labels() -> None:
    table = {metric.name: metric.labels for metric in METRICS}

    assert {name: table.get(name) for name in CONTRACT} == CONTRACT


def test_every_metric_of_the_contract_is_exported_by_some_role() -> None:
    names = set().union(*(exported(Metrics(Events(), role)) for role in ROLES))

    assert set(CONTRACT) - names == set()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_exports_exactly_what_the_table_gives_it(role: str) -> None:
    expected = {metric.name for metric in METRICS if role in metric.roles}

    assert exported(Metrics(Events(), role)) == expected


def test_database_wide_figures_are_exported_by_the_server_alone() -> None:
    assert {metric.roles for metric in METRICS if metric.database_wide} == {("server",)}


def test_names_end_in_their_unit_or_say_that_they_count() -> None:
    counters = {m.name for m in METRICS if m.kind is Kind.COUNTER}
    histograms = {m.name for m in METRICS if m.kind is Kind.HISTOGRAM}

    assert {name for name in counters if not name.endswith("_total")} == set()
    assert {name for name in histograms if not name.endswith("_seconds")} == set()


def test_buckets_rise_and_cover_what_the_design_asks_for() -> None:
    buckets = {m.name: m.buckets for m in METRICS if m.kind is Kind.HISTOGRAM}

    assert [b for b in buckets.values() if list(b) != sorted(set(b))] == []
    ends = {name: (bounds[0], bounds[-1]) for name, bounds in buckets.items()}
    assert ends["pillars_cron_lateness_seconds"] == (0.001, 60)
    assert ends["pillars_job_duration_seconds"] == (0.01, 3600)
    assert ends["pillars_job_start_delay_seconds"] == (0.005, 3600)


def test_the_readme_table_has_a_line_for_each_metric() -> None:
    lines = markdown_table().splitlines()

    assert len(lines) == len(METRICS) + 2
    assert {line.count("|") for line in lines} == {6}


# ---- the formats


@pytest.mark.parametrize("role", ROLES)
def test_the_plain_text_is_what_the_clients_own_parser_reads(role: str) -> None:
    text, content_type = Metrics(Events(), role).render()

    names = {family.name for family in plain(text.decode())}

    assert content_type.startswith("text/plain; version=0.0.4")
    assert {"pillars_build_info", "pillars_heartbeat_seconds", "python_info"} <= names
    assert any(name.startswith("process_") for name in names)


@pytest.mark.parametrize("role", ROLES)
def test_openmetrics_is_rendered_for_those_who_ask(role: str) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"

    text, content_type = Metrics(Events(), role).render(accept)

    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert "pillars_build" in {family.name for family in openmetrics(text.decode())}


# ---- what events do


def test_ticks_are_counted_by_outcome_and_queue(events: Events, cron: Metrics) -> None:
    events(ticks([0.0, 0.0, 0.02], enqueued=3, missed=4))
    events(ticks([0.3], swept=True, enqueued=1))

    assert value(cron, "pillars_cron_fires_total", outcome="enqueued") == 4
    assert value(cron, "pillars_cron_fires_total", outcome="missed") == 4
    assert value(cron, "pillars_cron_fires_total", outcome="duplicate") == 0
    assert value(cron, "pillars_cron_swept_fires_total") == 1
    assert value(cron, "pillars_cron_lost_races_total") == 4
    assert value(cron, "pillars_jobs_enqueued_total", queue="mail") == 4


def test_lateness_falls_into_its_buckets(events: Events, cron: Metrics) -> None:
    events(ticks([0.0, 0.0, 0.001, 0.02, 61.0], enqueued=5))

    assert value(cron, "pillars_cron_lateness_seconds_bucket", le="0.001") == 3
    assert value(cron, "pillars_cron_lateness_seconds_bucket", le="0.025") == 4
    assert value(cron, "pillars_cron_lateness_seconds_bucket", le="60.0") == 4
    assert value(cron, "pillars_cron_lateness_seconds_bucket", le="+Inf") == 5
    assert value(cron, "pillars_cron_lateness_seconds_count") == 5
    assert value(cron, "pillars_cron_lateness_seconds_sum") == pytest.approx(61.021)


def test_a_pass_tells_when_it_ended_and_what_it_left(events: Events, cron: Metrics) -> None:
    assert value(cron, "pillars_cron_last_pass_timestamp_seconds") is None

    events(PassCompleted(seconds=0.004, overdue=7))

    assert value(cron, "pillars_cron_last_pass_timestamp_seconds") == 1_800_000_000.0
    assert value(cron, "pillars_cron_overdue_schedules") == 7
    assert value(cron, "pillars_cron_pass_seconds_count") == 1


def test_the_share_of_the_ring_follows_the_membership(events: Events, cron: Metrics) -> None:
    shares = []
    for event in (
        MemberJoined("cron", "a", "1", slots=1365, ring_version=3),
        RingSeen(version=4, slots=2048, gained=683, lost=0),
        MembershipLost("cron", "a", "1"),
    ):
        events(event)
        shares.append(
            (value(cron, "pillars_ring_version"), value(cron, "pillars_cron_owned_slots")),
        )

    assert shares == [(3, 1365), (4, 2048), (0, 0)]


def test_the_cluster_and_the_clock_are_measured(events: Events, cron: Metrics) -> None:
    events(RingMoved(version=4, reason="expel", moved=1365))
    events(HeartbeatSent(0.002))
    events(ClockMeasured(-0.25))
    events(LoopFailed("ticker", "boom", 1, 0.1))
    cron.owned_schedules(12)

    assert value(cron, "pillars_ring_moves_total", reason="expel") == 1365
    assert value(cron, "pillars_ring_moves_total", reason="join") == 0
    assert value(cron, "pillars_heartbeat_seconds_count") == 1
    assert value(cron, "pillars_clock_offset_seconds") == -0.25
    assert value(cron, "pillars_loop_failures_total", loop="ticker") == 1
    assert value(cron, "pillars_cron_owned_schedules") == 12


def test_jobs_are_counted_and_timed(events: Events, worker: Metrics) -> None:
    events(JobsEnqueued("mail", 3))
    events(JobsClaimed(2, (("mail", 0.004), ("slow", 5000.0))))
    events(finished(queue="mail"))
    events(finished(queue="mail", outcome="dead"))
    events(SlotsUsed(busy=3, free=17))

    assert value(worker, "pillars_jobs_enqueued_total", queue="mail") == 3
    assert value(worker, "pillars_job_start_delay_seconds_bucket", queue="mail", le="0.005") == 1
    assert value(worker, "pillars_job_start_delay_seconds_bucket", queue="slow", le="3600.0") == 0
    assert value(worker, "pillars_job_start_delay_seconds_count", queue="slow") == 1
    outcomes = [
        value(worker, "pillars_jobs_finished_total", queue="mail", type="mail", outcome=outcome)
        for outcome in ("succeeded", "dead")
    ]
    assert outcomes == [1, 1]
    assert value(worker, "pillars_job_duration_seconds_sum", queue="mail", type="mail") == 1.0
    assert value(worker, "pillars_worker_slots", state="busy") == 3
    assert value(worker, "pillars_worker_slots", state="free") == 17


def test_the_first_job_of_a_type_makes_all_outcomes_so_that_a_first_failure_is_an_increase(
    events: Events,
    worker: Metrics,
) -> None:
    events(finished(type="mail"))

    labels = {"queue": "default", "type": "mail"}
    outcomes = ("succeeded", "failed", "dead", "cancelled")
    counts = [
        value(worker, "pillars_jobs_finished_total", **labels, outcome=outcome)
        for outcome in outcomes
    ]
    assert counts == [1, 0, 0, 0]


@pytest.mark.parametrize("role", ["server", "worker", "cron"])
def test_a_job_that_died_of_lost_workers_is_counted_by_whoever_expelled_the_last(role: str) -> None:
    events = Events()
    metrics = Metrics(events, role)

    events(JobLost(1, "mail", "mail", 5, None))

    labels = {"queue": "mail", "type": "mail", "outcome": "dead"}
    assert value(metrics, "pillars_jobs_finished_total", **labels) == 1


def test_statements_are_timed_by_name(events: Events, cron: Metrics) -> None:
    events(StatementRun("fire", 0.02))
    events(StatementRun("fire", 0.3))

    name = "pillars_db_statement_seconds"
    assert value(cron, f"{name}_count", statement="fire") == 2
    assert value(cron, f"{name}_bucket", statement="fire", le="0.025") == 1


def test_requests_are_counted_and_timed(events: Events, server: Metrics) -> None:
    events(RequestServed("GET", "/api/v1/jobs/{id}", 404, 0.003))

    labels = {"method": "GET", "route": "/api/v1/jobs/{id}"}
    assert value(server, "pillars_http_requests_total", **labels, status="404") == 1
    assert value(server, "pillars_http_request_seconds_bucket", **labels, le="0.005") == 1


# ---- bounds


def test_types_and_queues_beyond_the_limit_are_counted_as_other(
    events: Events,
    worker: Metrics,
) -> None:
    for number in range(LABEL_LIMIT + 50):
        events(JobsEnqueued(f"q{number}", 1))
        events(finished(type=f"t{number}", queue="q0"))

    labels = {"queue": "q0", "type": "other", "outcome": "succeeded"}
    assert value(worker, "pillars_jobs_enqueued_total", queue="other") == 50
    assert value(worker, "pillars_jobs_finished_total", **labels) == 50
    assert series(worker, "pillars_job_duration_seconds_count") == LABEL_LIMIT + 1
    assert series(worker, "pillars_jobs_enqueued_total") == LABEL_LIMIT + 1


def test_pairs_of_type_and_queue_are_bounded_too(events: Events, worker: Metrics) -> None:
    for number in range(PAIR_LIMIT + 500):
        events(finished(type=f"t{number % 40}", queue=f"q{number // 40}", outcome="dead"))

    labels = {"queue": "other", "type": "other", "outcome": "dead"}
    assert value(worker, "pillars_jobs_finished_total", **labels) == 500
    assert series(worker, "pillars_job_duration_seconds_count") == PAIR_LIMIT + 1


def test_what_a_client_calls_its_method_makes_no_series(events: Events, server: Metrics) -> None:
    for number in range(300):
        events(RequestServed(f"BREW{number}", "/", 405, 0.001))

    labels = {"method": "other", "route": "/", "status": "405"}
    assert value(server, "pillars_http_requests_total", **labels) == 300


def test_label_values_of_other_people_cannot_break_the_format(
    events: Events,
    worker: Metrics,
) -> None:
    events(finished(type='a"b\\c\nd{}'))

    text, _ = worker.render()

    types = {
        sample.labels["type"]
        for family in plain(text.decode())
        for sample in family.samples
        if family.name == "pillars_jobs_finished"
    }
    assert types == {'a"b\\c\nd{}'}


# ---- histograms

BOUNDS = (0.001, 0.01, 0.5, 1.0, 60.0)
seconds = st.one_of(
    st.sampled_from((0.0, -1.0, *BOUNDS)),
    st.floats(-1.0, 100.0, allow_nan=False),
)


@given(st.lists(st.lists(seconds)))
def test_a_batch_counts_like_its_values_one_by_one(batches: list[list[float]]) -> None:
    single, batched = Buckets(BOUNDS), Buckets(BOUNDS)

    for batch in batches:
        batched.observe_many(batch)
        for one in batch:
            single.observe(one)

    assert batched.counts == single.counts
    assert batched.total == pytest.approx(single.total)


def test_a_bound_belongs_to_its_bucket() -> None:
    buckets = Buckets(BOUNDS)

    buckets.observe_many([0.001, 0.0011, 60.0, 60.1])

    assert buckets.counts == [1, 1, 0, 0, 1, 1]
