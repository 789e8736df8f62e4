"""The metrics of several processes as those of one.

Counters and histograms are added up, gauges as the catalog says of each. What a process had
counted when it was last asked is kept when it ends, and when it does not answer: a sum that shrinks
would be taken for a restart, and all it is made of for new.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from pillars.telemetry.catalog import METRICS, Kind, Merge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_COUNTED = ("counter", "histogram")
_RULES = {metric.name: metric.merge for metric in METRICS if metric.kind is Kind.GAUGE}
# Of the client's own collectors; all others are the same in each process, or the latest counts.
_RULES |= dict.fromkeys(
    ("process_virtual_memory_bytes", "process_resident_memory_bytes", "process_open_fds"),
    Merge.SUM,
)


class Merged:
    """The latest metrics of each process, and what those that ended have counted."""

    def __init__(self) -> None:
        """Know of no process but this one, of which memory, files and CPU time are told."""
        self._latest: dict[str, list[Metric]] = {}
        self._ended: list[Metric] = []
        self._own = CollectorRegistry()
        ProcessCollector(registry=self._own)

    def saw(self, process: str, text: str) -> None:
        """Take over what `/metrics` of a process says."""
        self._latest[process] = list(text_string_to_metric_families(text))

    def ended(self, process: str) -> None:
        """Note that a process has ended; another one may have its name from now on."""
        metrics = self._latest.pop(process, [])
        counted = (metric for metric in metrics if metric.type in _COUNTED)
        self._ended = merge(chain(self._ended, counted))

    def now(self) -> Sums:
        """Return what is known now, to be added up elsewhere while processes come and go."""
        return Sums([self._own.collect(), *self._latest.values(), self._ended])


class Sums:
    """What the exposition of the client asks for."""

    def __init__(self, parts: Sequence[Iterable[Metric]]) -> None:
        """Add up these."""
        self._parts = parts

    def collect(self) -> list[Metric]:
        """Return the sums."""
        return merge(chain.from_iterable(self._parts))


def merge(metrics: Iterable[Metric]) -> list[Metric]:
    """Return one metric for each name, with one value for each series."""
    merged: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for metric in metrics:
        name = metric.name
        merged.setdefault(name, Metric(name, metric.documentation, metric.type))
        series = values.setdefault(name, {})
        adds = metric.type in _COUNTED or _RULES.get(name) is Merge.SUM
        for sample in metric.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            known = series.get(key)
            if known is None:
                series[key] = sample.value
            else:
                series[key] = known + sample.value if adds else max(known, sample.value)
    for name, series in values.items():
        for (sample_name, labels), value in series.items():
            merged[name].add_sample(sample_name, dict(labels), value)
    return list(merged.values())
