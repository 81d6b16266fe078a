"""What hub or agent tell Prometheus, read strictly by the library's own parser of OpenMetrics."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as text_to_families

from tests.running import Site

strictly: Callable[[str], Iterable[Metric]] = text_string_to_metric_families
"""What a text in OpenMetrics says; one that breaks its rules raises ValueError."""
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


class Told(NamedTuple):
    """The samples by name, each by its labels; and the kinds of the metrics."""

    samples: dict[str, dict[frozenset[tuple[str, str]], float]]
    kinds: dict[str, str]

    def value(self, name: str, /, **labels: str) -> float | None:
        """That of the only sample that has these labels among its own, None where there is none."""
        wanted = set(labels.items())
        found = [value for own, value in self.samples.get(name, {}).items() if wanted <= own]
        assert len(found) < 2, (name, labels, found)
        return found[0] if found else None

    def values(self, name: str, label: str, /, **labels: str) -> dict[str, float]:
        """Those of all samples that have these labels, by the value of ``label``."""
        wanted = set(labels.items())
        return {dict(own)[label]: value for own, value in self.samples.get(name, {}).items() if wanted <= own}


def read(text: str, content_type: str = "application/openmetrics-text") -> Told:
    """What ``text`` says. Two samples alike fail the test, as what is not of the format does."""
    parse = strictly if content_type.startswith("application/openmetrics") else text_to_families
    samples: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    kinds: dict[str, str] = {}
    for family in parse(text):
        assert family.name not in kinds
        kinds[family.name] = family.type
        for sample in family.samples:
            labels = frozenset((name, value) for name, value in sample.labels.items() if value)
            of_name = samples.setdefault(sample.name, {})
            assert labels not in of_name, sample
            of_name[labels] = sample.value
    return Told(samples, kinds)


async def told(site: Site, headers: Mapping[str, str] | None = None) -> Told:
    """What a hub or an agent tells who asks for OpenMetrics."""
    async with site.session.get(f"{site.url}/metrics", headers=OPENMETRICS | dict(headers or {})) as response:
        assert response.status == 200
        return read(await response.text(), response.headers["Content-Type"])
