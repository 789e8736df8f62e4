"""Several processes report as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from pillars.ground.events import ClockMeasured, Events, JobFinished, JobsFinished, SlotsUsed
from pillars.telemetry.catalog import Kind, metrics_of
from pillars.telemetry.merge import Merged
from pillars.telemetry.metrics import Metrics, encode

if TYPE_CHECKING:
    from pillars.ground.events import Event


def worker(*happened: Event) -> str:
    """What `/metrics` of a worker says after this."""
    events = Events()
    metrics = Metrics(events, "worker")
    for event in happened:
        events(event)
    return metrics.render()[0].decode()


def done(type_: str, seconds: float) -> JobsFinished:
    job = JobFinished(1, type_, "default", 1, "succeeded", seconds, None, None, None)
    return JobsFinished((job,))


def value(merged: Merged, name: str, **labels: str) -> float | None:
    text = encode(merged.now(), "")[0].decode()
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    assert len(found) <= 1
    return found[0] if found else None


def succeeded(merged: Merged, type_: str = "mail") -> float | None:
    labels = {"queue": "default", "type": type_, "outcome": "succeeded"}
    return value(merged, "pillars_jobs_finished_total", **labels)


def test_counters_and_histograms_are_added_up() -> None:
    merged = Merged()
    merged.saw("w#1", worker(done("mail", 0.25), done("mail", 3)))
    merged.saw("w#2", worker(done("mail", 0.25), done("other", 1)))

    assert (succeeded(merged), succeeded(merged, "other")) == (3, 1)
    durations = {"queue": "default", "type": "mail"}
    assert value(merged, "pillars_job_duration_seconds_count", **durations) == 3
    assert value(merged, "pillars_job_duration_seconds_bucket", le="0.25", **durations) == 2
    assert value(merged, "pillars_job_duration_seconds_sum", **durations) == 3.5


def test_each_gauge_is_merged_as_the_catalog_says() -> None:
    merged = Merged()
    merged.saw("w#1", worker(SlotsUsed(3, 1), ClockMeasured(0.25)))
    merged.saw("w#2", worker(SlotsUsed(2, 2), ClockMeasured(0.5)))

    assert value(merged, "pillars_worker_slots", state="busy") == 5
    assert value(merged, "pillars_clock_offset_seconds") == 0.5
    assert value(merged, "pillars_build_info", version="0.1.0", role="worker") == 1


def test_what_a_process_counted_does_not_go_with_it() -> None:
    merged = Merged()
    merged.saw("w#1", worker(done("mail", 1), SlotsUsed(4, 0)))
    merged.saw("w#2", worker(done("mail", 1), SlotsUsed(4, 0)))

    merged.ended("w#1")
    assert succeeded(merged) == 2
    assert value(merged, "pillars_worker_slots", state="busy") == 4

    merged.saw("w#1", worker(done("mail", 1)))
    merged.ended("w#1")
    assert succeeded(merged) == 3


def test_a_process_of_which_nothing_is_known_may_end() -> None:
    merged = Merged()
    merged.ended("w#1")

    assert succeeded(merged) is None


def test_both_formats_are_offered() -> None:
    merged = Merged()
    merged.saw("w#1", worker(done("mail", 1)))

    text, kind = encode(merged.now(), "application/openmetrics-text; version=1.0.0")

    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_each_gauge_of_a_worker_says_how_it_is_merged() -> None:
    gauges = [metric for metric in metrics_of("worker") if metric.kind is Kind.GAUGE]

    assert gauges != []
    assert [metric.name for metric in gauges if metric.merge is None] == []
