"""The agent's metrics in the text formats that Prometheus scrapes.

Nothing is registered process-wide: a registry of our own is made once and reads :class:`~edge_agent.metrics.Metrics`
at each scrape, so that counting costs nothing more than it did. ``prometheus_client`` (5 MB) is imported at first use.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from edge_agent.metrics import Counter, Family, Gauge, Histogram, Metrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

_OPENMETRICS = "application/openmetrics-text"


class PrometheusRenderer:
    """Renders ``metrics``, and CPU and memory of this process under their customary names (``process_…``)."""

    def __init__(self, metrics: Metrics) -> None:
        from prometheus_client import CollectorRegistry, ProcessCollector

        self._metrics = metrics
        # `auto_describe` would collect everything once at registration to look for names given twice.
        self._registry: CollectorRegistry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Body and content type: OpenMetrics 1.0 when the ``Accept`` header names it, else text format 0.0.4.

        Safe to call from another thread than the one that counts; then a histogram's sum and counts may be one
        observation apart.
        """
        from prometheus_client import exposition, openmetrics

        if _OPENMETRICS in accept.lower():
            body: bytes = openmetrics.exposition.generate_latest(self._registry)  # type: ignore[no-untyped-call]  # untyped there
            return body, openmetrics.exposition.CONTENT_TYPE_LATEST
        return exposition.generate_latest(self._registry), exposition.CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterator[Metric]:
        """What ``prometheus_client`` asks of a collector: every family with its series as they are now."""
        for family in self._metrics.families():
            yield _to_metric(family)


def render(metrics: Metrics, accept: str = "") -> tuple[bytes, str]:
    """Body and content type of one scrape; who scrapes often keeps a :class:`PrometheusRenderer` instead."""
    return PrometheusRenderer(metrics).render(accept)


def _to_metric(family: Family[Counter] | Family[Gauge] | Family[Histogram]) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    if family.kind == Histogram.kind:
        histogram = HistogramMetricFamily(family.name, family.description, labels=family.label_names)
        for values, child in family.series():
            if isinstance(child, Histogram):
                histogram.add_metric(list(values), _buckets(child), child.sum)
        return histogram
    kind = CounterMetricFamily if family.kind == Counter.kind else GaugeMetricFamily
    number = kind(family.name, family.description, labels=family.label_names)
    for values, child in family.series():
        if not isinstance(child, Histogram):
            number.add_metric(list(values), child.value)
    return number


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(repr, histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))
