"""How far a store has followed the other one's change log, and what it holds of before.

The mark is committed together with the data that it stands for. It names the store whose
log it counts in, and the time of the entry that it stands on, so that a log which was
rewound (a server restored from a backup) is noticed and not followed blindly.

*Covered* is a follower that has everything: the log was followed without a gap from a
place on, and what was there before that place was copied, or there was nothing. Only a
covered follower may become primary. A backfill that was complete once proves nothing
after a gap, because it lies before the place from which the log was followed since.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Self

import msgspec

from pend_storage.errors import ChangesExpired, ConfigError
from pend_storage.records import JSON, Change
from pend_storage.store import Store

__all__ = [
    "BACKFILL_META",
    "HELD_BACK",
    "MARK_META",
    "SPOILED_META",
    "Mark",
    "covers",
    "fresh_mark",
    "is_covered",
    "is_empty",
    "news",
    "reaches",
    "resume_mark",
]

MARK_META: Final = "mark"
"""Name of the meta entry of a follower that holds its :class:`Mark`."""
BACKFILL_META: Final = "backfill"
"""Name of the meta entry in which a backfill leaves how far it has come, with the members
``source`` (identity), ``head`` (of the source, when it began) and ``complete``."""
SPOILED_META: Final = "spoiled"
"""Meta of a store that holds what its primary does not know of: it was voted out, or it
came with records in the place of another one. It must be emptied before it follows."""
HELD_BACK: Final = 1.5
"""Seconds after which nothing can be on its way that was committed before: PostgreSQL
holds its change log back for a second at most, where others have long transactions."""
_PAUSE: Final = 0.02
_REWOUND: Final = (
    "the change log of the primary does not have the place any more up to which its "
    "follower has applied it (number {mark.after} of {mark.at}): the primary was "
    "restored from a backup, or replaced, and has lost what came after it. Nothing was "
    "changed. Bring back the store that was there before, or decide which of the two "
    "holds the truth, and let it take over with `pend-storage doctor --elect json` or "
    "`--elect postgres`."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place in another store's change log."""

    of: str
    """Identity of the store whose log it is."""
    after: int
    """Sequence of the last entry that has been applied."""
    at: str | None = None
    """Time of that entry, to know it again; None where the mark is on no entry."""
    base: int
    """From here on the log was followed without a gap."""
    whole: bool
    """Whether all that was there at the base is here too, without a backfill."""

    def to_meta(self) -> JSON:
        """As a meta value."""
        value: JSON = msgspec.to_builtins(self)
        return value

    @classmethod
    def parse(cls, value: JSON) -> Self | None:
        """From a meta value; None where it is not a mark."""
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError:
            return None

    @classmethod
    def load(cls, follower: Store) -> Self | None:
        """The mark of a store; None where it has never followed."""
        return cls.parse(follower.meta(MARK_META))

    def moved(self, change: Change) -> Mark:
        """The mark on a later entry."""
        return replace(self, after=change.sequence, at=change.at.isoformat())


class _Filled(msgspec.Struct):
    """What a backfill has left in the meta of its target."""

    source: str
    head: int
    complete: bool


def _filled(follower: Store, source: str) -> int | None:
    """Head of the source when a backfill began that is complete; None without one."""
    try:
        found = msgspec.convert(follower.meta(BACKFILL_META), _Filled)
    except msgspec.ValidationError:
        return None
    return found.head if found.complete and found.source == source else None


def is_covered(primary: Store, follower: Store) -> bool:
    """Whether the follower will have everything once the log is applied.

    To be asked while it follows, or where :func:`resume_mark` says how it would.
    """
    mark = Mark.load(follower)
    return mark is not None and covers(primary, follower, mark)


def covers(primary: Store, follower: Store, mark: Mark) -> bool:
    """As :func:`is_covered`, for a mark that the follower does not have yet."""
    source = primary.identity()
    if mark.of != source:
        return False
    filled = _filled(follower, source)
    return mark.whole or (filled is not None and filled >= mark.base)


def resume_mark(primary: Store, follower: Store) -> Mark:
    """Where a store that begins to follow goes on, or begins anew.

    Raises:
        ConfigError: the primary's log was rewound.
    """
    source = primary.identity()
    known = Mark.load(follower)
    if known is not None and known.of == source and reaches(primary, known):
        return known
    filled = _filled(follower, source)
    if filled is not None:
        mark = Mark(of=source, after=filled, base=filled, whole=True)
        if reaches(primary, mark):
            return mark
    return fresh_mark(primary)


def fresh_mark(primary: Store) -> Mark:
    """The log from now on; what is there already must come by a backfill."""
    head = primary.head()
    whole = is_empty(primary)  # looked at after the head: what comes now is in the log
    return Mark(of=primary.identity(), after=head, base=head, whole=whole)


def reaches(primary: Store, mark: Mark) -> bool:
    """Whether the log is kept back to a mark.

    Raises:
        ConfigError: it was rewound.
    """
    try:
        next(news(primary, mark), None)
    except ChangesExpired:
        return False
    return True


def news(primary: Store, mark: Mark) -> Iterator[Change]:
    """The entries after a mark, having looked that the log is the one it was made in.

    Raises:
        ChangesExpired: the log does not reach back so far.
        ConfigError: the entry of the mark is not in the log any more.
    """
    if not _knows(primary, mark):
        raise ConfigError(_REWOUND.format(mark=mark))
    yield from primary.changes(mark.after)


def _knows(primary: Store, mark: Mark) -> bool:
    """Whether the log has the place of a mark, or has forgotten it."""
    if mark.at is None:
        later = next(primary.changes(mark.after), None)
        return later is not None or primary.head() >= mark.after
    deadline = time.monotonic() + HELD_BACK
    while True:
        ahead = primary.head()
        try:
            found = next(primary.changes(mark.after - 1), None)
        except ChangesExpired:
            return True  # dropped up to the mark itself: nothing to compare
        if found is not None:
            return (found.sequence, found.at.isoformat()) == (mark.after, mark.at)
        # Nothing from there on: the log is shorter, or it is being held back.
        if ahead >= mark.after or time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE)


def is_empty(store: Store) -> bool:
    """Whether nothing was ever written there, not even what is deleted by now."""
    return not any(
        True for spec in store.schema for _ in store.scan(spec.name, deleted=True)
    )
