"""Metrics, read off the node's own counts when Prometheus asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

Labelled = Mapping[str, int] | Mapping[tuple[str, str, str], int]
"""Counts by the value of one label, or by the values of several."""


class NodeCollector:
    """Prometheus collector over functions that give the present figures."""

    def __init__(
        self,
        *,
        gauges: Mapping[str, tuple[str, Callable[[], float]]],
        counters: Mapping[str, tuple[str, Callable[[], float]]],
        labelled: Mapping[str, tuple[str, tuple[str, ...], Callable[[], Labelled]]],
    ) -> None:
        """Take (help, read) by name, and (help, labels, read) for labelled counters."""
        self._gauges = gauges
        self._counters = counters
        self._labelled = labelled

    def collect(self) -> Iterable[Metric]:
        """Yield every metric."""
        for name, (text, read) in self._gauges.items():
            yield GaugeMetricFamily(f"bellhop_{name}", text, value=read())
        for name, (text, read) in self._counters.items():
            yield CounterMetricFamily(f"bellhop_{name}", text, value=read())
        for name, (text, labels, read_all) in self._labelled.items():
            family = CounterMetricFamily(f"bellhop_{name}", text, labels=labels)
            for values, count in read_all().items():
                family.add_metric([values] if isinstance(values, str) else values, count)
            yield family


class Metrics:
    """A registry of one node's own, rendered on demand."""

    def __init__(self, collector: NodeCollector) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(collector)

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self._registry)
