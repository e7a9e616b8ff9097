"""Our metrics as the SDK's metrics data. They are aggregated already, so no instrument of the SDK is involved."""

from __future__ import annotations

import math
from typing import TypeVar

from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.resources import Resource

from edge_agent.export.otlp_resource import SCOPE, utf8
from edge_agent.metrics import Counter, Family, Gauge, Histogram, Metrics

_UNITS = {"_seconds": "s", "_bytes": "By"}
_CUMULATIVE = sdk.AggregationTemporality.CUMULATIVE
AnyFamily = Family[Counter] | Family[Gauge] | Family[Histogram]
M = TypeVar("M", Counter, Gauge, Histogram)


def metrics_data(who: Resource, metrics: Metrics, start_ns: int, now_ns: int) -> sdk.MetricsData:
    """All families with a value, as cumulative sums, gauges and explicit-bucket histograms."""
    found = [_metric(family, start_ns, now_ns) for family in metrics.families()]
    scope = sdk.ScopeMetrics(scope=SCOPE, metrics=[m for m in found if m is not None], schema_url="")
    return sdk.MetricsData([sdk.ResourceMetrics(resource=who, scope_metrics=[scope], schema_url="")])


def _metric(family: AnyFamily, start_ns: int, now_ns: int) -> sdk.Metric | None:
    data: sdk.Sum | sdk.Gauge | sdk.Histogram
    if family.kind == Histogram.kind:
        histograms = [_histogram(labels, c, start_ns, now_ns) for labels, c in _series(family, Histogram)]
        data = sdk.Histogram(histograms, _CUMULATIVE)
    elif family.kind == Counter.kind:
        counts = [_number(labels, c.value, start_ns, now_ns) for labels, c in _series(family, Counter)]
        data = sdk.Sum(counts, _CUMULATIVE, is_monotonic=True)
    else:
        gauges = _series(family, Gauge)
        data = sdk.Gauge([_number(labels, c.value, 0, now_ns) for labels, c in gauges if not math.isnan(c.value)])
    if not data.data_points:
        return None
    # Receivers that speak Prometheus add `_total` to a monotonic sum again.
    name = family.name.removesuffix("_total")
    return sdk.Metric(name=name, description=family.description, unit=_unit(name), data=data)


def _series(family: AnyFamily, kind: type[M]) -> list[tuple[dict[str, str], M]]:
    return [
        (dict(zip(family.label_names, map(utf8, values), strict=True)), child)
        for values, child in family.series()
        if isinstance(child, kind)
    ]


def _unit(name: str) -> str:
    return next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "1")


def _number(labels: dict[str, str], value: float, start_ns: int, now_ns: int) -> sdk.NumberDataPoint:
    return sdk.NumberDataPoint(labels, start_time_unix_nano=start_ns, time_unix_nano=now_ns, value=float(value))


def _histogram(labels: dict[str, str], child: Histogram, start_ns: int, now_ns: int) -> sdk.HistogramDataPoint:
    counts = list(child.counts)
    return sdk.HistogramDataPoint(
        labels,
        start_time_unix_nano=start_ns,
        time_unix_nano=now_ns,
        count=sum(counts),
        sum=child.sum,
        bucket_counts=counts,
        explicit_bounds=child.bounds,
        min=None,  # type: ignore[arg-type]  # optional in OTLP and to the encoder; we do not keep it
        max=None,  # type: ignore[arg-type]
    )
