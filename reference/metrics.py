"""The catalogue of metrics."""

from gpumon.catalog import METRICS, Metric
from reference.pages import table


def reference() -> str:
    """The table of all metrics, as ``/api/catalog`` has them."""
    return table(("metric", "unit", "kind", "remembered", "meaning"), (_row(metric) for metric in METRICS))


def _row(metric: Metric) -> list[str]:
    remembered = "yes, and made by the hub" if metric.derived else "yes" if metric.in_history else ""
    return [f"`{metric.field}`", metric.unit, metric.kind, remembered, metric.help]
