"""What a run was told, and what must therefore be there at its end."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

__all__ = ["Contents", "Fate", "Ledger", "Write"]

Contents: TypeAlias = Mapping[str, str]
"""Text by key of all that a store holds."""


class Fate(Enum):
    """What a run knows of a write."""

    DONE = "acknowledged"
    OPEN = "its outcome is not known"
    REFUSED = "refused, with nothing changed"
    LOST = "acknowledged by a server, and the one in its place does not have it"


@dataclass(slots=True)
class Write:
    """One key, in one commit."""

    key: str
    text: str | None
    """None: deleted."""
    fate: Fate = Fate.OPEN
    version: int = 0
    number: int = 0
    """Writes that began before it, in the whole run."""
    is_acknowledged: bool = False


@dataclass(slots=True)
class Ledger:
    """The writes of each key, in order; each key is written by one thread."""

    writes: dict[str, list[Write]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    is_exchanged: bool = False
    begun_before: int = 0
    """Writes that had begun when the server was exchanged."""
    begun: int = 0
    """Writes so far."""
    _number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def text(self) -> str:
        """A text that no other write has."""
        with self._lock:
            self._number += 1
            return f"t{self._number}"

    def begin(self, key: str, text: str | None) -> Write:
        """Note a write before it is tried."""
        write = Write(key, text, number=self.begun)
        self.begun += 1
        self.writes.setdefault(key, []).append(write)
        return write

    def exchanged(self, former: Contents, following: Contents) -> None:
        """Note what an exchange has lost.

        Args:
            former: what the server held that was primary until now.
            following: what the one in its place holds.
        """
        self.is_exchanged = True
        self.begun_before = self.begun
        for key, writes in self.writes.items():
            last = _last(writes, former.get(key))
            kept = _last(writes, following.get(key))
            for write in writes[kept + 1 : last + 1]:
                if write.fate in {Fate.DONE, Fate.OPEN}:
                    write.fate = Fate.LOST
                    self.counts["lost by the exchange"] += 1

    def settle(self, write: Write, fate: Fate, version: int = 0) -> None:
        """Note what came of a write."""
        write.version = version
        write.is_acknowledged = fate is Fate.DONE
        if write.fate is not Fate.LOST:
            write.fate = fate

    # -- judging ------------------------------------------------------------------------

    def missing(self, found: Contents) -> list[Write]:
        """Acknowledged writes that are neither there nor overwritten by a later one."""
        return [
            writes[must]
            for writes in self.writes.values()
            if (must := _must(writes)) >= 0 and _place(writes, found) < must
        ]

    def wrong(self, found: Contents) -> list[str]:
        """Values that nobody has written, or whose writing was refused."""
        told = []
        for key, text in found.items():
            writes = self.writes.get(key, [])
            same = [w for w in writes if w.text == text]
            if not same or same[-1].fate is Fate.REFUSED:
                told.append(f"{key} holds {text}, which was never taken")
        return told

    def forgotten(self, found: Contents) -> list[Write]:
        """Writes that the exchange has lost, and that are neither there nor overwritten."""
        return [
            write
            for writes in self.writes.values()
            for n, write in enumerate(writes)
            if write.fate is Fate.LOST
            and write.is_acknowledged
            and _place(writes, found) < n
        ]

    def shrunk(self) -> list[str]:
        """Keys of which an acknowledged version is not above the one before."""
        told = []
        for key, writes in self.writes.items():
            given = [w.version for w in writes if w.fate is Fate.DONE and w.version]
            if given != sorted(set(given)):
                told.append(f"{key} was given the versions {given}")
        return told


def _must(writes: list[Write]) -> int:
    """The last write that was acknowledged by the surviving history."""
    done = [n for n, write in enumerate(writes) if write.fate is Fate.DONE]
    return max(done, default=-1)


def _place(writes: list[Write], found: Contents) -> int:
    """Which write a store shows."""
    key = writes[0].key
    return _last(writes, found.get(key))


def _last(writes: Iterable[Write], text: str | None) -> int:
    places = [n for n, write in enumerate(writes) if write.text == text]
    return max(places, default=-1)
