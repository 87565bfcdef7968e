"""Index of commit tokens: the change-log entry of each, for the latest entries."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import Final

from pend_storage._model.attribution import token_time
from pend_storage.stores._inmemory.state import LogRecord

__all__ = ["TokenIndex"]

_MOST: Final = 50_000
"""Tokens kept: some seconds of the fastest writing there is, at 200 bytes each. A commit
that waited for longer costs a walk along the journal."""


class TokenIndex:
    """Map tokens to sequence numbers. An older token is still found in the journal."""

    def __init__(self, since: datetime) -> None:
        """Begin with nothing.

        Args:
            since: no entry that will not be added was made later than this.
        """
        self._sequences: dict[str, int] = {}
        self._latest: deque[tuple[str, datetime]] = deque()
        self._forgotten_at = since

    def add(self, effect: LogRecord) -> None:
        """Take note of an entry; the oldest is forgotten when there are very many."""
        if effect.token is None or effect.at is None:
            return
        self._sequences[effect.token] = effect.sequence
        self._latest.append((effect.token, effect.at))
        if len(self._latest) > _MOST:
            token, self._forgotten_at = self._latest.popleft()
            self._sequences.pop(token, None)

    def find(self, token: str) -> int | None:
        """The sequence of the entry with a token, if it is one of the latest."""
        return self._sequences.get(token)

    def is_older(self, token: str) -> bool:
        """Whether the entry with a token, if there is one, may be forgotten here.

        A token is made before its commit, so a young one cannot be. One that does not
        tell when it was made may be of any age.
        """
        made = token_time(token)
        return made is None or datetime.fromtimestamp(made, UTC) <= self._forgotten_at
