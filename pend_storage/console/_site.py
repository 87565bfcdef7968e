"""Site: what the routes of one console share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from pend_storage.config import Settings
from pend_storage.console._actions import action_documents
from pend_storage.console._actors import Actor, Authority
from pend_storage.console._documents import encoded, environment_document
from pend_storage.console._feed import FeedHub
from pend_storage.console._looking import Looking, Reading
from pend_storage.console._poller import Look, Poller
from pend_storage.console._series import Series
from pend_storage.console._tasks import Tasks
from pend_storage.operations.health import Health, HealthProbe

__all__ = ["Site"]

T = TypeVar("T")
_AGES: Final = 5.0
"""Seconds for which the same look gives the same snapshot: then its age is another one."""


class Site:
    """Parts of one console: its poller, readers, tasks and authority."""

    def __init__(
        self,
        settings: Settings,
        authority: Authority,
        *,
        read_only: bool,
        runbook: str | None,
    ) -> None:
        """Make the parts; no store is opened before the first question.

        Args:
            settings: of the environment.
            authority: decides who has sent a request.
            read_only: whether there are no actions.
            runbook: address of the pages for operators.
        """
        self.settings = settings
        self.authority = authority
        self.read_only = read_only
        self.runbook = runbook
        self.series = Series()
        self._looking = Looking(settings)
        self.poller = Poller(self._look, self._looking.close)
        self.reading = Reading(settings)
        self.feed = FeedHub(self.reading)
        self.tasks = Tasks()
        self._lock = threading.Lock()
        self._documents: dict[tuple[int, int], dict[str, Any]] = {}
        self._kept: dict[str, tuple[float, Any]] = {}

    def _look(self, number: int, last: Look | None) -> Look:
        found = self._looking(number, last)
        self.series.add(found)
        return found

    @property
    def probe(self) -> HealthProbe:
        """Probe of the health, for those who ask between two looks."""
        return self._looking.health

    def health(self) -> Health:
        """Return the health, at most a second old."""
        return self.probe.health()

    def snapshot(self, actor: Actor) -> dict[str, Any]:
        """Return the snapshot of the last look, as an actor sees it."""
        look = self.poller.latest
        document = self._document(look)
        status = None if look is None else look.status
        return {
            **document,
            "actor": {"name": actor.name, "roles": sorted(actor.roles)},
            "actions": action_documents(
                self.settings, status, actor, read_only=self.read_only
            ),
        }

    def encoded_snapshot(self, actor: Actor) -> bytes:
        """Return the snapshot as JSON."""
        return encoded(self.snapshot(actor))

    def _document(self, look: Look | None) -> dict[str, Any]:
        """Return the part of a snapshot that all actors see; made once for each look."""
        now = datetime.now(UTC)
        age = 0.0 if look is None else (now - look.at).total_seconds()
        key = (0 if look is None else look.number, int(age / _AGES))
        with self._lock:
            if (known := self._documents.get(key)) is not None:
                return known
        document = environment_document(
            self.settings,
            look,
            now=now,
            series=self.series.document(),
            read_only=self.read_only,
            runbook=self.runbook,
        )
        with self._lock:
            self._documents = {key: document}
        return document

    def kept(self, name: str, seconds: float, make: Callable[[], T]) -> T:
        """Return what a function returned lately, or call it.

        Args:
            name: of what it returns.
            seconds: for which that is good.
            make: returns it.
        """
        with self._lock:
            at, value = self._kept.get(name, (-seconds, None))
        found: T
        if time.monotonic() - at < seconds:
            found = value
            return found
        found = make()
        with self._lock:
            self._kept[name] = (time.monotonic(), found)
        return found

    def close(self) -> None:
        """Close the stores, and end the threads."""
        self.feed.close()
        self.poller.close()
        self.reading.close()
