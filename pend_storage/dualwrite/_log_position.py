"""Positions in a store's change log, and whether the log still has them.

A position names the store, what stood behind it (:meth:`Store.incarnation
<pend_storage.store.Store.incarnation>`), and the entry that it is on: sequence, time and
token. Sequence numbers alone prove nothing, because a server that lost its last commits
uses the same numbers again.

The entry is compared in the same read that asks for what comes after it, every time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

import msgspec
from typing_extensions import override

from pend_storage._model.records import JSON, Change
from pend_storage.errors import ChangesExpired, ConfigError, StoreUnavailable
from pend_storage.store import Store

__all__ = [
    "HELD_BACK",
    "LogPosition",
    "LogRewound",
    "entries_after",
    "find_entry",
    "has_entry",
    "kept_changes",
    "last_entry",
]

HELD_BACK: Final = 1.5
"""Seconds after which nothing can be on its way that was committed before: PostgreSQL
holds its change log back for a second at most, where others have long transactions."""
_PAUSE: Final = 0.02
_REWOUND: Final = (
    "the change log of the primary does not have the entry any more that is known to "
    "have been in it ({known}); there is {found}. The primary was restored from a backup, "
    "failed over to a standby that was behind, or was replaced, and has lost what came "
    "after; or another copy of it is in use{copies}. Nothing was changed, reads go on, "
    "and writes are refused. Bring back the store that was there before, or decide which "
    "of the two holds the truth, and let it take over with `pend-storage doctor --elect "
    "json` or `--elect postgres`."
)


class LogRewound(ConfigError):
    """Raised where a change log lacks an entry that was in it; for callers a ConfigError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPosition:
    """Position in a store's change log, which can be compared with that log later."""

    source: str
    """Identity of the store."""
    incarnation: str | None = None
    """Incarnation of the store when this was found; None in older positions."""
    sequence: int
    committed_at: str | None = None
    """Time of the entry with that sequence; None where the position is on no entry, or
    where its time was not found out."""
    token: str | None = None
    """Token of that entry; None also in entries made before there were tokens."""

    @classmethod
    def on(cls, change: Change, source: str, incarnation: str | None) -> Self:
        """Return the position of an entry of the log."""
        return cls(
            source=source,
            incarnation=incarnation,
            sequence=change.sequence,
            committed_at=change.at.isoformat(),
            token=change.token,
        )

    @classmethod
    def parse(cls, value: JSON) -> Self | None:
        """Return the position that a meta value holds; None where it holds none."""
        try:
            found = msgspec.convert(value, _Stored)
        except msgspec.ValidationError:
            return None
        return cls(
            source=found.of,
            incarnation=found.incarnation,
            sequence=found.sequence,
            committed_at=found.at,
            token=found.token,
        )

    def to_meta(self) -> JSON:
        """Return the meta value; the names in it are those of the first version."""
        return {
            "of": self.source,
            "incarnation": self.incarnation,
            "sequence": self.sequence,
            "at": self.committed_at,
            "token": self.token,
        }

    @property
    def is_entry(self) -> bool:
        """True where a time or a token identifies the entry."""
        return self.committed_at is not None or self.token is not None

    def is_lost(self, here: str) -> bool:
        """Return whether it is on no entry, and was found at another incarnation than here."""
        return not self.is_entry and self.incarnation not in {None, here}

    def matches(self, change: Change) -> bool:
        """Return whether an entry is the one that this position is on."""
        if self.token is not None and change.token is not None:
            if self.token != change.token:
                return False
            if self.committed_at is None:
                # Its version is known, and may lie below its sequence.
                return change.sequence >= self.sequence
        return change.sequence == self.sequence and (
            self.committed_at is None or self.committed_at == change.at.isoformat()
        )

    @override
    def __str__(self) -> str:
        """Return the position as messages name it."""
        made = f" of {self.committed_at}" if self.committed_at else ""
        token = f", token {self.token}" if self.token else ""
        return f"number {self.sequence}{made}{token}"


class _Stored(msgspec.Struct):
    """Meta value of a :class:`LogPosition`."""

    of: str
    sequence: int
    incarnation: str | None = None
    at: str | None = None
    token: str | None = None


def entries_after(store: Store, position: LogPosition) -> Iterator[Change]:
    """Yield the entries after a position, having compared the entry that it is on.

    Raises:
        ChangesExpired: the log does not reach back so far; or the position is on no entry
            and was found at another incarnation, so there is nothing to compare.
        LogRewound: the log is another one: it does not have the entry of the position.
        StoreUnavailable: the store cannot be reached; or it is not known yet, because
            a transaction that stays open holds the log back.
    """
    if not position.is_entry:
        yield from _entries_after_no_entry(store, position)
        return
    log = _from(store, position)
    if log is None:  # forgotten up to this entry, or beyond it: nothing to compare
        yield from store.changes(position.sequence)
        return
    found = next(log, None)
    if found is None:
        found = _behind_the_horizon(store, position)
        if found is None:
            return
    if not position.matches(found):
        raise _rewound(store, position, found)
    yield from log


def _from(store: Store, position: LogPosition) -> Iterator[Change] | None:
    """Return the log from the entry of a position on; None where that was forgotten."""
    log = store.changes(position.sequence - 1)
    try:
        first = next(log, None)
    except ChangesExpired:
        return None
    return _chained(first, log)


def _chained(first: Change | None, rest: Iterator[Change]) -> Iterator[Change]:
    if first is not None:
        yield first
        yield from rest


def _entries_after_no_entry(store: Store, position: LogPosition) -> Iterator[Change]:
    log = store.changes(position.sequence)
    first = next(log, None)
    # Read after the log: what was read before an exchange of servers is not yielded after.
    if position.sequence and position.is_lost(store.incarnation()):
        raise ChangesExpired(
            store=store.identity(), after=position.sequence, oldest=store.head()
        )
    if first is None and store.head() < position.sequence:
        raise _rewound(store, position, None)
    yield from _chained(first, log)


def _behind_the_horizon(store: Store, position: LogPosition) -> Change | None:
    """Return the entry at a position beyond the end of the visible log.

    The log ends below it, or a transaction that stays open holds it back. The entry's
    token shows which; without one, that the log is shown up to there.

    Returns:
        The entry that is there by now; None where the right one is not shown yet.
    """
    deadline = time.monotonic() + HELD_BACK
    while True:
        # In this order: an entry that becomes visible between the reads is seen by the last.
        ahead = store.head()
        hidden = None if position.token is None else find_entry(store, position.token)
        log = _from(store, position)
        shown = None if log is None else next(log, None)
        if shown is not None or log is None:
            return shown
        if hidden is not None and position.matches(hidden):
            return None
        if position.token is not None or ahead >= position.sequence:
            raise _rewound(store, position, None)
        if time.monotonic() >= deadline:
            raise StoreUnavailable(
                f"its change log cannot be compared with the position {position}, up to "
                "which it was followed: a transaction that stays open holds the log back",
                store="the primary",
            )
        time.sleep(_PAUSE)


def find_entry(store: Store, token: str) -> Change | None:
    """Return the entry with a token; None where there is none, or it was forgotten."""
    try:
        return store.find_commit(token)
    except ChangesExpired:  # a store that looks for it by walking along its log
        return None


def has_entry(store: Store, position: LogPosition) -> bool:
    """Return whether a log has the entry of a position; one cheap read.

    False where the entry was pruned.

    Raises:
        StoreUnavailable: the store cannot be reached, or it is not known yet.
        LogRewound: the entry is not there.
    """
    if position.token is not None:
        found = find_entry(store, position.token)
        if found is not None and position.matches(found):
            return True
    try:
        next(entries_after(store, position), None)
    except ChangesExpired:
        return False
    return True


def kept_changes(store: Store) -> Iterator[Change]:
    """Yield the entries of a store's change log, as far back as it is kept."""
    after = 0
    while True:
        try:
            yield from store.changes(after)
        except ChangesExpired as expired:
            after = expired.oldest
        else:
            return


def last_entry(store: Store, after: int) -> Change | None:
    """Return the last entry after a sequence; it reads all of them, so few should be there."""
    found = None
    try:
        for change in store.changes(after):
            found = change
    except ChangesExpired as expired:
        return last_entry(store, expired.oldest)
    return found


def _rewound(store: Store, position: LogPosition, found: Change | None) -> LogRewound:
    here = store.incarnation()
    there = (
        "nothing from there on"
        if found is None
        else (
            f"number {found.sequence} of {found.at.isoformat()}"
            + (f", token {found.token}" if found.token else "")
        )
    )
    copies = ""
    if position.incarnation not in {None, here}:
        copies = f" (it was seen at {position.incarnation}, and here is {here})"
    return LogRewound(_REWOUND.format(known=position, found=there, copies=copies))
