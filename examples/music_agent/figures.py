"""Reads the service's own metrics, as a Prometheus server would scrape them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import httpx
from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]


class Figures:
    """Samples by name and labels; adding two gives what both processes counted.

    Args:
        exposition: What `/metrics` answered; "" is nothing counted yet.
    """

    def __init__(self, exposition: str = "") -> None:
        self.samples: Counter[tuple[str, Labels]] = Counter()
        for family in text_string_to_metric_families(exposition):
            for sample in family.samples:
                self.samples[sample.name, tuple(sorted(sample.labels.items()))] += sample.value  # type: ignore[assignment]

    @classmethod
    def scrape(cls, url: str) -> Figures:
        """Read `/metrics` of a running service."""
        return cls(httpx.get(f"{url}/metrics", timeout=10).raise_for_status().text)

    def __add__(self, other: Figures) -> Figures:
        """Return the sum of both."""
        both = Figures()
        both.samples = self.samples + other.samples
        return both

    def total(self, metric: str, /, **labels: str) -> int:
        """Return the sum over all samples of a metric that carry these labels."""
        wanted = set(labels.items())
        return round(sum(value for (name, has), value in self.samples.items() if name == metric and wanted <= set(has)))

    def by(self, metric: str, label: str) -> dict[str, int]:
        """Return a metric's totals by one label, the largest first."""
        totals: Counter[str] = Counter()
        for (name, labels), value in self.samples.items():
            if name == metric:
                totals[dict(labels).get(label, "")] += round(value)
        return {name: count for name, count in totals.most_common() if count}

    def hits(self, level: str) -> tuple[int, int]:
        """Return how many lookups of a cache level found something, and how many there were."""
        found = self.total("smw_cache_requests_total", level=level, outcome="hit")
        return found, found + self.total("smw_cache_requests_total", level=level, outcome="miss")


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value below which `share` of the values lie; 0 where there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
