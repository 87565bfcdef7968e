"""How far a store has followed the other one's change log, and what it holds of before.

The mark is committed together with the data that it stands for. It names the store whose
log it counts in, what stood behind that store, and the time and token of the entry that
it is on. They are compared at every read, so a log that was rewound (a server restored
from a backup, a standby that was behind) is not followed blindly.

*Covered* is a follower that has everything: the log was followed without a gap from a
place on, and what was there before that place was copied, or there was nothing. Only a
covered follower may become primary. A backfill that was complete once proves nothing
after a gap, because it lies before the place from which the log was followed since.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

import msgspec

from pend_storage._records import JSON, Change
from pend_storage.dualwrite.positions import (
    HELD_BACK,
    Position,
    entries_after,
    is_there,
    last_entry,
)
from pend_storage.errors import ChangesExpired
from pend_storage.store import Store

__all__ = [
    "BACKFILL_META",
    "HELD_BACK",
    "MARK_META",
    "SPOILED_META",
    "Mark",
    "covers",
    "end_mark",
    "fresh_mark",
    "has_mark",
    "is_covered",
    "is_empty",
    "news",
    "reaches",
    "rebind",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place in another store's change log."""

    of: str
    """Identity of the store whose log it is."""
    after: int
    """Sequence of the last entry that has been applied."""
    at: str | None = None
    """Time of that entry, to know it again; None where the mark is on no entry."""
    token: str | None = None
    """Token of that entry, likewise; None also where the commit had none."""
    incarnation: str | None = None
    """What stood behind the store when the mark was last compared with its log; None in
    marks of older versions."""
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
        at = change.at.isoformat()
        return replace(self, after=change.sequence, at=at, token=change.token)

    def is_lost(self, here: str) -> bool:
        """Whether nothing can tell if the log is still the one that it was made in.

        At the very beginning nothing of a log was passed, so any log continues it.

        Args:
            here: what stands behind the store now.
        """
        return bool(self.after) and self.position.is_lost(here)

    @property
    def position(self) -> Position:
        """Where it is."""
        return Position(
            of=self.of,
            incarnation=self.incarnation,
            sequence=self.after,
            at=self.at,
            token=self.token,
        )


class _Filled(msgspec.Struct):
    """What a backfill has left in the meta of its target."""

    source: str
    head: int
    complete: bool
    incarnation: str | None = None


def _filled(follower: Store, source: str, here: str) -> int | None:
    """Head of the source when a backfill began that is complete; None without one.

    One that was made from another incarnation of the source does not count: its numbers
    mean nothing here. See :func:`rebind`.
    """
    try:
        found = msgspec.convert(follower.meta(BACKFILL_META), _Filled)
    except msgspec.ValidationError:
        return None
    is_known = found.source == source and found.incarnation in {None, here}
    return found.head if found.complete and is_known else None


def rebind(primary: Store, follower: Store, mark: Mark) -> None:
    """Let the facts of a follower count at the present incarnation of its primary.

    To be called where the mark's entry was found there: then the log there is the one
    that the mark was made in, and what was copied before lies before that entry.

    Args:
        primary: whose log has the entry.
        follower: whose meta is changed; where another process does so, by that one.
        mark: as the follower has it.
    """
    here = primary.incarnation()
    found, fact = follower.meta(MARK_META), follower.meta(BACKFILL_META)
    if Mark.parse(found) != mark:
        return
    if isinstance(fact, Mapping) and fact.get("source") == mark.of:
        carried: JSON = {**fact, "incarnation": here}
        follower.compare_and_set_meta(
            BACKFILL_META, fact, carried, given={MARK_META: found}
        )
    bound = replace(mark, incarnation=here).to_meta()
    follower.compare_and_set_meta(MARK_META, found, bound)


def is_covered(primary: Store, follower: Store) -> bool:
    """Whether the follower will have everything once the log is applied.

    To be asked while it follows, or where :func:`resume_mark` says how it would.
    """
    mark = Mark.load(follower)
    return mark is not None and covers(primary, follower, mark)


def covers(primary: Store, follower: Store, mark: Mark) -> bool:
    """As :func:`is_covered`, for a mark that the follower does not have yet."""
    source, here = primary.identity(), primary.incarnation()
    if mark.of != source or mark.is_lost(here):
        return False
    if mark.whole:
        return True
    filled = _filled(follower, source, here)
    return filled is not None and filled >= mark.base


def resume_mark(primary: Store, follower: Store) -> Mark:
    """Where a store that begins to follow goes on, or begins anew.

    Raises:
        ConfigError: the primary's log was rewound.
    """
    source, here = primary.identity(), primary.incarnation()
    known = Mark.load(follower)
    if known is not None and known.of == source and reaches(primary, known):
        return known
    filled = _filled(follower, source, here)
    if filled is not None:
        mark = Mark(of=source, after=filled, base=filled, whole=True, incarnation=here)
        mark = _on_its_entry(primary, mark)
        if reaches(primary, mark):
            return mark
    return fresh_mark(primary)


def fresh_mark(primary: Store) -> Mark:
    """The log from now on; what is there already must come by a backfill."""
    source, here = primary.identity(), primary.incarnation()
    head = primary.head()
    whole = is_empty(primary)  # looked at after the head: what comes now is in the log
    mark = Mark(of=source, after=head, base=head, whole=whole, incarnation=here)
    return _on_its_entry(primary, mark)


def end_mark(primary: Store, known: Mark | None) -> Mark:
    """The end of the log of a store that commits nothing now; nothing lies before it.

    Args:
        primary: whose log it is; it is to become primary.
        known: where it was followed up to before, if it was.
    """
    source, here = primary.identity(), primary.incarnation()
    head = primary.head()
    mark = Mark(of=source, after=head, base=head, whole=True, incarnation=here)
    after = known.after - 1 if known is not None and known.of == source else 0
    last = last_entry(primary, after)
    return mark if last is None else mark.moved(last)


def _on_its_entry(primary: Store, mark: Mark) -> Mark:
    """The mark on an entry, if there is one where it is."""
    try:
        found = next(primary.changes(mark.after - 1), None)
    except ChangesExpired:
        return mark
    return mark.moved(found) if found and found.sequence == mark.after else mark


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


def has_mark(primary: Store, mark: Mark) -> bool:
    """Whether a log has the entry of a mark; one cheap look where that has a token.

    False where the entry was forgotten, or nothing is there to be compared.

    Raises:
        ConfigError: the log was rewound.
    """
    return (
        reaches(primary, mark) if mark.at is None else is_there(primary, mark.position)
    )


def news(primary: Store, mark: Mark) -> Iterator[Change]:
    """The entries after a mark: the one way to read a log that is followed.

    The entry of the mark is read together with what comes after it, and compared, so what
    is given continues what the mark stands for.

    Raises:
        ChangesExpired: the log does not reach back so far.
        ConfigError: the entry of the mark is not in the log any more.
        StoreUnavailable: the primary cannot be reached, or it cannot be told yet.
    """
    return entries_after(primary, mark.position)


def is_empty(store: Store) -> bool:
    """Whether nothing was ever written there, not even what is deleted by now."""
    return not any(
        True for spec in store.schema for _ in store.scan(spec.name, deleted=True)
    )
