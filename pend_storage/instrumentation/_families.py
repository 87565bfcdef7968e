"""Families of samples, as ``prometheus_client`` renders them, by the catalogue."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from prometheus_client.core import Metric as Family

from pend_storage.instrumentation._catalogue import Metric

__all__ = ["Family", "Samples", "build_labels", "cumulative", "described"]

_UNKNOWN: Final = "unknown"


class Samples:
    """Samples of one scrape, by metric."""

    def __init__(self, metrics: Mapping[str, Metric], **common: str) -> None:
        """Begin without samples.

        Args:
            metrics: those that may have samples.
            common: labels of each sample.
        """
        self._families = {name: _family(metric) for name, metric in metrics.items()}
        self.common: dict[str, str] = common
        """Labels of the samples that are added from now on."""

    def add(self, name: str, value: float | None, **labels: str) -> None:
        """Add a sample; a value that is not known makes none."""
        if value is not None:
            self._add(name, name, value, labels)

    def choose(self, name: str, value: str, choices: Sequence[str], label: str) -> None:
        """Add a sample for each choice: 1 for the value, 0 for the others."""
        for choice in choices:
            self.add(name, float(choice == value), **{label: choice})

    def add_histogram(
        self,
        name: str,
        bounds: Sequence[float],
        counts: Sequence[float],
        total: float,
        **labels: str,
    ) -> None:
        """Add the samples of a histogram.

        Args:
            name: of the metric.
            bounds: upper bounds of the buckets.
            counts: in each bucket, and above them.
            total: sum of the observed values.
            labels: of each sample.
        """
        sums = cumulative(counts)
        for bound, number in zip((*map(str, bounds), "+Inf"), sums, strict=True):
            self._add(name, f"{name}_bucket", number, {**labels, "le": bound})
        self._add(name, f"{name}_count", sums[-1], labels)
        self._add(name, f"{name}_sum", total, labels)

    def add_summary(self, name: str, count: float, total: float) -> None:
        """Add the samples of a summary without quantiles."""
        self._add(name, f"{name}_count", count, {})
        self._add(name, f"{name}_sum", total, {})

    def families(self) -> Iterator[Family]:
        """Return the families that have samples."""
        return (family for family in self._families.values() if family.samples)

    def _add(
        self, name: str, sample: str, value: float, labels: Mapping[str, str]
    ) -> None:
        found = {**self.common, **labels}
        self._families[name].add_sample(sample, found, value)


def described(metrics: Mapping[str, Metric]) -> list[Family]:
    """Return families without samples: by them a registry finds duplicates."""
    return [_family(metric) for metric in metrics.values()]


def _family(metric: Metric) -> Family:
    name = metric.name
    if metric.kind == "counter":  # of which the family's name lacks the suffix
        name = name.removesuffix("_total")
    return Family(name, metric.meaning, metric.kind)


def cumulative(counts: Sequence[float]) -> list[float]:
    """Return the sums of the first one, two, ... counts."""
    sums, before = [], 0.0
    for number in counts:
        before += number
        sums.append(before)
    return sums


def build_labels() -> dict[str, str]:
    """Return the versions of the library and of Python."""
    try:
        own = version("pend_storage")
    except PackageNotFoundError:  # a copy of the sources, not installed
        own = _UNKNOWN
    return {"version": own, "python": platform.python_version()}
