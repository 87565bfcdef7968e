"""Failover detector: reports another server behind the same address."""

from __future__ import annotations

import logging

from pend_storage.events import Event, Hook
from pend_storage.stores.postgres._connection.connection import LibpqConnection
from pend_storage.stores.postgres._connection.pool import Pool
from pend_storage.stores.postgres._connection.server_facts import ServerFacts

__all__ = ["FailoverDetector"]


class FailoverDetector:
    """Compares the incarnation of each new connection with the previous one."""

    def __init__(self, store: str, pool: Pool, hook: Hook) -> None:
        self._store = store
        self._pool = pool
        self._hook = hook
        self._seen: str | None = None
        self._claims: dict[tuple[str, int], object] = {}
        """Reporter of each change; no lock, which an interrupt could leave locked."""
        self.generation = 0
        """Number of times that the incarnation changed."""

    def observe(self, connection: LibpqConnection, facts: ServerFacts) -> None:
        """Record what a connection leads to, and report a change.

        At a change, idle connections to the former server are closed, and those in use
        on release: one that still answers may be a server that was replaced.
        """
        connection.facts = facts
        claim = object()
        generation = self.generation  # read before the incarnation
        before, self._seen = self._seen, facts.incarnation
        if before is None or before == facts.incarnation:
            return
        if self._claims.setdefault((before, generation), claim) is not claim:
            return  # another thread has seen it, too
        self.generation = generation + 1
        """Number of times that the incarnation changed."""
        connection.generation = self._pool.invalidate()
        self._hook(
            Event(
                "server-changed",
                f"{self._store}: another server or another history stands behind the "
                f"address: {before} before, {facts.incarnation} now (system identifier/"
                "timeline/database/change log). Connections to the former one are "
                "closed, revision and encoding were checked, and numbers continue above "
                "the end of the log; what was verified against the former one is "
                "verified anew.",
                logging.WARNING,
                {"before": before, "now": facts.incarnation, "store": self._store},
            )
        )
