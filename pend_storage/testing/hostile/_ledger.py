"""Ledger of a run: every write with its outcome, and what must be there at the end."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

__all__ = ["Contents", "Fate", "Ledger", "Verdict", "Write"]

Contents: TypeAlias = Mapping[str, str]
"""Text by key, of all records in a store."""


class Fate(Enum):
    """Outcome of a write, as the run knows it."""

    DONE = "acknowledged"
    OPEN = "its outcome is not known"
    REFUSED = "refused, with nothing changed"
    LOST = "acknowledged by a server, and the one in its place does not have it"


@dataclass(slots=True)
class Write:
    """Write of one key, in one commit."""

    key: str
    text: str | None
    """Written text; None: deleted."""
    fate: Fate = Fate.OPEN
    version: int = 0
    number: int = 0
    """Number of writes that began before it, in the whole run."""
    is_acknowledged: bool = False


@dataclass(slots=True)
class Ledger:
    """Writes of each key, in order; each key is written by one thread."""

    writes: dict[str, list[Write]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    is_exchanged: bool = False
    begun_before: int = 0
    """Number of writes that had begun when the server was exchanged."""
    begun: int = 0
    """Number of writes so far."""
    _number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def text(self) -> str:
        """Return a text that no other write has."""
        with self._lock:
            self._number += 1
            return f"t{self._number}"

    def begin(self, key: str, text: str | None) -> Write:
        """Record a write before it is tried."""
        write = Write(key, text, number=self.begun)
        self.begun += 1
        self.writes.setdefault(key, []).append(write)
        return write

    def exchanged(self, former: Contents, following: Contents) -> None:
        """Mark the writes that an exchange has lost.

        Args:
            former: contents of the server that was primary, or empty if it was not.
            following: contents of the server in its place.
        """
        self.is_exchanged = True
        self.begun_before = self.begun
        for key, writes in self.writes.items():
            # Texts are unique, so a key's text shows which of its writes came last.
            last = _last_index(writes, former.get(key))
            kept = _last_index(writes, following.get(key))
            for write in writes[kept + 1 : last + 1]:
                if write.fate in {Fate.DONE, Fate.OPEN}:
                    write.fate = Fate.LOST
                    self.counts["lost by the exchange"] += 1

    def settle(self, write: Write, fate: Fate, version: int = 0) -> None:
        """Record the outcome of a write, unless the exchange has lost it."""
        write.version = version
        write.is_acknowledged = fate is Fate.DONE
        if write.fate is not Fate.LOST:
            write.fate = fate

    # -- checks -------------------------------------------------------------------------

    def missing(self, found: Contents) -> list[Write]:
        """List acknowledged writes that are neither present nor overwritten."""
        return [
            writes[must]
            for writes in self.writes.values()
            if (must := _last_acknowledged(writes)) >= 0
            and _shown_index(writes, found) < must
        ]

    def wrong(self, found: Contents) -> list[str]:
        """List values that were never written, or whose write was refused."""
        findings = []
        for key, text in found.items():
            writes = self.writes.get(key, [])
            same = [w for w in writes if w.text == text]
            if not same or same[-1].fate is Fate.REFUSED:
                findings.append(
                    f"{key} holds {text}, which was refused, or never written"
                )
        return findings

    def forgotten(self, found: Contents) -> list[Write]:
        """List writes lost by the exchange that are neither present nor overwritten."""
        return [
            write
            for writes in self.writes.values()
            for n, write in enumerate(writes)
            if write.fate is Fate.LOST
            and write.is_acknowledged
            and _shown_index(writes, found) < n
        ]

    def shrunk(self) -> list[str]:
        """List keys whose acknowledged versions do not grow."""
        findings = []
        for key, writes in self.writes.items():
            given = [w.version for w in writes if w.fate is Fate.DONE and w.version]
            if given != sorted(set(given)):
                findings.append(f"{key} was given the versions {given}")
        return findings


@dataclass(slots=True)
class Verdict:
    """Outcome of a run: counters, reports, violations."""

    counts: Counter[str]
    """Exchanges, calls, writes by outcome, events, healed, elections, ..."""
    reported: list[str]
    """Events and errors since the exchange, without outages."""
    wrong: list[str] = field(default_factory=list)
    """Violations of the promises; empty if there are none."""


def _last_acknowledged(writes: list[Write]) -> int:
    """Return the index of the last acknowledged write; -1 without any."""
    done = [n for n, write in enumerate(writes) if write.fate is Fate.DONE]
    return max(done, default=-1)


def _shown_index(writes: list[Write], found: Contents) -> int:
    """Return the index of the write that a store shows; -1 without any."""
    key = writes[0].key
    return _last_index(writes, found.get(key))


def _last_index(writes: Iterable[Write], text: str | None) -> int:
    places = [n for n, write in enumerate(writes) if write.text == text]
    return max(places, default=-1)
