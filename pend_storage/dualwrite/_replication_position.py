"""Replication position: how far a store has followed the other one's change log.

The position, called *mark* in the design, is committed together with the rows that it
stands for. It names the store whose log it counts in, that store's incarnation, and the time
and token of the entry that it is on. The entry is compared at every read, so a log that was
rewound (a server restored from a backup, a standby that was behind) is not followed
blindly.

A *complete* replica has everything: the log was followed without a gap from a place on,
and what was there before that place was copied, or there was nothing. Only a complete
replica may become primary. A backfill that was complete once proves nothing after a gap,
because it lies before the place from which the log was followed since.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

import msgspec

from pend_storage._model.meta_names import BACKFILL_META, POSITION_META, TAINTED_META
from pend_storage._model.records import JSON, Change
from pend_storage.dualwrite._log_position import (
    HELD_BACK,
    LogPosition,
    entries_after,
    has_entry,
    last_entry,
)
from pend_storage.errors import ChangesExpired
from pend_storage.store import Store

__all__ = [
    "BACKFILL_META",
    "HELD_BACK",
    "POSITION_META",
    "TAINTED_META",
    "ReplicationPosition",
    "changes_after",
    "is_complete_for",
    "is_complete_replica",
    "is_complete_when_resumed",
    "is_empty",
    "log_has",
    "log_reaches",
    "position_at_end",
    "position_from_now",
    "rebind",
    "resume_position",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationPosition:
    """Position up to which a follower has applied its primary's change log.

    It is committed together with the rows that it stands for, as the meta entry
    :data:`POSITION_META`.
    """

    source: str
    """Identity of the store whose log it is."""
    sequence: int
    """Of the last entry that was applied."""
    committed_at: str | None = None
    """Time of that entry, to recognise it; None where the position is on no entry."""
    token: str | None = None
    """Token of that entry, likewise; None also where the commit had none."""
    incarnation: str | None = None
    """Incarnation of the source when the position was last compared with its log; None in
    positions of older versions."""
    contiguous_from: int
    """Sequence from which on the log was followed without a gap."""
    needs_no_backfill: bool
    """Whether the follower also has all that the source held at ``contiguous_from``."""

    def to_meta(self) -> JSON:
        """Return the meta value; the names in it are those of the first version."""
        return {
            "of": self.source,
            "after": self.sequence,
            "at": self.committed_at,
            "token": self.token,
            "incarnation": self.incarnation,
            "base": self.contiguous_from,
            "whole": self.needs_no_backfill,
        }

    @classmethod
    def parse(cls, value: JSON) -> Self | None:
        """Return the position that a meta value holds; None where it holds none."""
        try:
            found = msgspec.convert(value, _Stored)
        except msgspec.ValidationError:
            return None
        return cls(
            source=found.of,
            sequence=found.after,
            committed_at=found.at,
            token=found.token,
            incarnation=found.incarnation,
            contiguous_from=found.base,
            needs_no_backfill=found.whole,
        )

    @classmethod
    def load(cls, follower: Store) -> Self | None:
        """Read the position of a store; None where it has never followed."""
        return cls.parse(follower.meta(POSITION_META))

    def moved(self, change: Change) -> ReplicationPosition:
        """Return the position on a later entry."""
        return replace(
            self,
            sequence=change.sequence,
            committed_at=change.at.isoformat(),
            token=change.token,
        )

    def is_lost(self, here: str) -> bool:
        """Return whether nothing can prove that the log is still the one it was made in.

        Args:
            here: incarnation of the source now.
        """
        # At the very beginning nothing of a log was passed, so any log continues it.
        return bool(self.sequence) and self.position.is_lost(here)

    @property
    def position(self) -> LogPosition:
        """The position in the log, without what the follower holds."""
        return LogPosition(
            source=self.source,
            incarnation=self.incarnation,
            sequence=self.sequence,
            committed_at=self.committed_at,
            token=self.token,
        )


class _Stored(msgspec.Struct):
    """Meta value of a :class:`ReplicationPosition`."""

    of: str
    after: int
    base: int
    whole: bool
    at: str | None = None
    token: str | None = None
    incarnation: str | None = None


class _Filled(msgspec.Struct):
    """Value of :data:`BACKFILL_META`, as far as it counts here."""

    source: str
    head: int
    complete: bool
    incarnation: str | None = None


def _filled(follower: Store, source: str, here: str) -> int | None:
    """Return the source's head when a complete backfill began; None without one.

    One that was made from another incarnation of the source does not count: its numbers
    mean nothing here. See :func:`rebind`.
    """
    try:
        found = msgspec.convert(follower.meta(BACKFILL_META), _Filled)
    except msgspec.ValidationError:
        return None
    is_known = found.source == source and found.incarnation in {None, here}
    return found.head if found.complete and is_known else None


def rebind(primary: Store, follower: Store, mark: ReplicationPosition) -> None:
    """Carry position and backfill of a follower over to the primary's present incarnation.

    To be called where the mark's entry was found there: then the log there is the one
    that the mark was made in, and what was copied before lies before that entry.

    Args:
        primary: whose log has the entry.
        follower: whose meta is changed, unless another process has changed it.
        mark: as the follower has it.
    """
    here = primary.incarnation()
    found, fact = follower.meta(POSITION_META), follower.meta(BACKFILL_META)
    if ReplicationPosition.parse(found) != mark:
        return
    if isinstance(fact, Mapping) and fact.get("source") == mark.source:
        carried: JSON = {**fact, "incarnation": here}
        follower.compare_and_set_meta(
            BACKFILL_META, fact, carried, given={POSITION_META: found}
        )
    # The mark last: where this is interrupted, the old mark makes a later comparison repeat
    # both steps.
    bound = replace(mark, incarnation=here).to_meta()
    follower.compare_and_set_meta(POSITION_META, found, bound)


def is_complete_replica(primary: Store, follower: Store) -> bool:
    """Return whether the follower will have everything once the log is applied.

    To be called while it follows; otherwise :func:`is_complete_for` decides.
    """
    mark = ReplicationPosition.load(follower)
    return mark is not None and is_complete_for(primary, follower, mark)


def is_complete_when_resumed(primary: Store, follower: Store) -> bool:
    """Return whether a switch would find the follower complete; it need not follow now.

    This is the one definition of a complete backfill: readiness, every status and the
    doctor ask it.

    Raises:
        ConfigError: the primary's log was rewound.
        StoreUnavailable: one of the stores cannot be reached.
    """
    try:
        return is_complete_for(primary, follower, resume_position(primary, follower))
    except ChangesExpired:
        return False


def is_complete_for(primary: Store, follower: Store, mark: ReplicationPosition) -> bool:
    """Return whether the follower will have everything, if it follows from this mark.

    Args:
        primary: whose log is followed.
        follower: whose backfill counts.
        mark: need not be the one that is stored.
    """
    source, here = primary.identity(), primary.incarnation()
    if mark.source != source or mark.is_lost(here):
        return False
    if mark.needs_no_backfill:
        return True
    # A backfill has copied what was there when it began. It covers all that lies before the
    # gapless part of the log, if it began there or later.
    filled = _filled(follower, source, here)
    return filled is not None and filled >= mark.contiguous_from


def resume_position(primary: Store, follower: Store) -> ReplicationPosition:
    """Return the position from which a store begins to follow, or goes on.

    Raises:
        ConfigError: the primary's log was rewound.
    """
    source, here = primary.identity(), primary.incarnation()
    known = ReplicationPosition.load(follower)
    if known is not None and known.source == source and log_reaches(primary, known):
        return known
    filled = _filled(follower, source, here)
    if filled is not None:
        mark = ReplicationPosition(
            source=source,
            sequence=filled,
            contiguous_from=filled,
            needs_no_backfill=True,
            incarnation=here,
        )
        mark = _on_its_entry(primary, mark)
        if log_reaches(primary, mark):
            return mark
    return position_from_now(primary)


def position_from_now(primary: Store) -> ReplicationPosition:
    """Return the present end of the log; what is there already needs a backfill."""
    source, here = primary.identity(), primary.incarnation()
    head = primary.head()
    whole = is_empty(primary)  # read after the head: what comes now is in the log
    mark = ReplicationPosition(
        source=source,
        sequence=head,
        contiguous_from=head,
        needs_no_backfill=whole,
        incarnation=here,
    )
    return _on_its_entry(primary, mark)


def position_at_end(
    primary: Store, known: ReplicationPosition | None
) -> ReplicationPosition:
    """Return the end of the log of a store that commits nothing now.

    The follower has all that lies before it.

    Args:
        primary: whose log it is; it is to become primary.
        known: where it was followed up to before, if it was.
    """
    source, here = primary.identity(), primary.incarnation()
    head = primary.head()
    mark = ReplicationPosition(
        source=source,
        sequence=head,
        contiguous_from=head,
        needs_no_backfill=True,
        incarnation=here,
    )
    after = known.sequence - 1 if known is not None and known.source == source else 0
    last = last_entry(primary, after)
    return mark if last is None else mark.moved(last)


def _on_its_entry(primary: Store, mark: ReplicationPosition) -> ReplicationPosition:
    """Return a mark on its entry, if there is one."""
    try:
        found = next(primary.changes(mark.sequence - 1), None)
    except ChangesExpired:
        return mark
    return mark.moved(found) if found and found.sequence == mark.sequence else mark


def log_reaches(primary: Store, mark: ReplicationPosition) -> bool:
    """Return whether the log is kept back to a mark.

    Raises:
        ConfigError: it was rewound.
    """
    try:
        next(changes_after(primary, mark), None)
    except ChangesExpired:
        return False
    return True


def log_has(primary: Store, mark: ReplicationPosition) -> bool:
    """Return whether a log has the entry of a mark; one cheap read where that has a token.

    False where the entry was pruned, or there is no entry to compare.

    Raises:
        ConfigError: the log was rewound.
    """
    return (
        log_reaches(primary, mark)
        if mark.committed_at is None
        else has_entry(primary, mark.position)
    )


def changes_after(primary: Store, mark: ReplicationPosition) -> Iterator[Change]:
    """Yield the entries after a mark: the one way to read a log that is followed.

    The entry of the mark is read together with what comes after it, and compared, so what
    is yielded continues what the mark stands for.

    Raises:
        ChangesExpired: the log does not reach back so far.
        ConfigError: the entry of the mark is not in the log any more.
        StoreUnavailable: the primary cannot be reached, or it is not known yet.
    """
    return entries_after(primary, mark.position)


def is_empty(store: Store) -> bool:
    """Return whether a store has no rows at all, not even tombstones."""
    return not any(
        True for spec in store.schema for _ in store.scan(spec.name, deleted=True)
    )
