"""Prometheus: instruments, the facts of a pair, and the text of a scrape.

Needs the extra ``metrics``.
"""
from __future__ import annotations
from collections.abc import Callable
from typing import Any
from pend_storage.events import Event

__all__ = ["PairCollector", "PrometheusInstruments", "render"]


class PrometheusInstruments:
    """Instruments that a Prometheus server scrapes.

    Threads count into tables of their own, which a collector adds up at a scrape. Where
    ``PROMETHEUS_MULTIPROC_DIR`` is set, real metrics of the library are used instead,
    because a scrape over several processes does not see collectors.
    """

    def __init__(self, registry: Any = None) -> None:
        """Register with a registry; several instruments of one registry count together.

        Args:
            registry: a ``prometheus_client.CollectorRegistry``; None: the default one.

        Raises:
            ConfigError: ``prometheus_client`` is not installed.
        """
    def timed(self, operation: str, collection: str, store: str, seconds: float, error: str | None, /) -> None: ...
    def counted(self, fact: str, amount: int, kind: str, /) -> None: ...
    def event(self, event: Event, /) -> None: ...


class PairCollector:
    """Collector of the facts of a pair of stores, by one look for each scrape.

    For one process of an environment: ``pend-storage console``, or a server that calls
    ``registry.register(PairCollector(probe.status))``.
    """

    def __init__(self, look: Callable[[], Any]) -> None:
        """Collect from a look.

        Args:
            look: returns an :class:`~pend_storage.operations.status.EnvironmentStatus`. What
                it raises ends the scrape of the pair's facts, not the scrape.
        """


def render(registry: Any, accept: str = "") -> tuple[bytes, str]:
    """Return the body of a scrape, and its content type.

    Args:
        registry: a ``prometheus_client.CollectorRegistry``.
        accept: header of the request; it chooses OpenMetrics or the text format.
    """
    raise NotImplementedError
