"""Token index: maps commit tokens to change-log entries, for the latest entries."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import Final

from pend_storage._model.attribution import token_time
from pend_storage.stores._inmemory.state import LogRecord

__all__ = ["TokenIndex"]

_MOST: Final = 50_000
"""Tokens in memory: some seconds of the fastest writing, at 200 bytes each. An older token
costs a scan of the journal."""


class TokenIndex:
    """Map tokens to sequence numbers; older tokens are found in the journal only."""

    def __init__(self, since: datetime) -> None:
        """Create an empty index.

        Args:
            since: entries made before this time may be missing from the index.
        """
        self._sequences: dict[str, int] = {}
        self._latest: deque[tuple[str, datetime]] = deque()
        self._forgotten_at = since

    def add(self, effect: LogRecord) -> None:
        """Index an entry; evict the oldest one beyond the limit."""
        if effect.token is None or effect.at is None:
            return
        self._sequences[effect.token] = effect.sequence
        self._latest.append((effect.token, effect.at))
        if len(self._latest) > _MOST:
            token, self._forgotten_at = self._latest.popleft()
            self._sequences.pop(token, None)

    def find(self, token: str) -> int | None:
        """Return the sequence number of a token's entry; None if it is not in the index."""
        return self._sequences.get(token)

    def is_older(self, token: str) -> bool:
        """Return True if a token's entry may have been evicted, or never indexed.

        A token is made before its commit. So the entry of one that is younger than the last
        evicted entry would be indexed. A token without a time may be of any age.
        """
        made = token_time(token)
        return made is None or datetime.fromtimestamp(made, UTC) <= self._forgotten_at
