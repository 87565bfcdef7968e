"""OpenTelemetry: durations as metrics, and spans of calls over the network. Extra ``otel``."""
from __future__ import annotations
from typing import Any
from pend_storage.events import Event

__all__ = ["OpenTelemetryInstruments"]


class OpenTelemetryInstruments:
    """Instruments of the OpenTelemetry API; the SDK and its exporters are the user's."""

    def __init__(self, *, meter_provider: Any = None, tracer_provider: Any = None) -> None:
        """Make the instruments.

        Args:
            meter_provider: of metrics; None: the global one.
            tracer_provider: of spans; None: the global one.
        """
    def timed(self, operation: str, collection: str, store: str, seconds: float, error: str | None, /) -> None: ...
    def counted(self, fact: str, amount: int, kind: str, /) -> None: ...
    def event(self, event: Event, /) -> None: ...
