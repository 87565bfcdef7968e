"""Scrapes of a registry, parsed by the library's own parser."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from pend_storage.instrumentation import render

Sample = tuple[str, dict[str, str], float]


def samples(body: bytes) -> list[Sample]:
    """Name, labels and value of each sample of a scrape."""
    families: Iterable[Any] = text_string_to_metric_families(body.decode())
    return [(s.name, s.labels, s.value) for family in families for s in family.samples]


def scrape(registry: CollectorRegistry) -> list[Sample]:
    """Scrape a registry."""
    body, _ = render(registry)
    return samples(body)


def total(found: Iterable[Sample], name: str, **labels: str) -> float:
    """Sum of the samples of a name that have these labels."""
    return sum(
        value
        for sample, own, value in found
        if sample == name and labels.items() <= own.items()
    )


def one(found: Iterable[Sample], name: str, **labels: str) -> float:
    """Value of the only sample of a name that has these labels."""
    (value,) = [
        value
        for sample, own, value in found
        if sample == name and labels.items() <= own.items()
    ]
    return value
