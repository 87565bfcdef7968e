"""Place of the record of jobs: what running and asking need of a store."""

from __future__ import annotations

from typing import Protocol

from pend_storage._model.records import JSON
from pend_storage.events import Event

__all__ = ["JobPlace", "JobRecord"]


class JobRecord(Protocol):
    """Record of jobs that is only read."""

    def meta(self, name: str) -> JSON:
        """As :meth:`StoreBackend.meta`."""


class JobPlace(JobRecord, Protocol):
    """Place of the record of jobs: any store, a pair above all."""

    def compare_and_set_meta(self, name: str, expected: JSON, value: JSON) -> bool:
        """As :meth:`StoreBackend.compare_and_set_meta`."""

    def tell(self, event: Event) -> None:
        """As :meth:`StoreBackend.tell`."""
