"""Forced promotion of one store after the loss, restore or replacement of the other one.

No switch leads out of that, because a switch needs both stores and loses nothing. Here an
operator decides which store holds the truth from now on; what only the other one had is
reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from pend_storage._model.diff import differences
from pend_storage._model.records import Change, ChangedRecord, Row
from pend_storage.crashpoints import declare
from pend_storage.dualwrite._log_continuity import WITNESS_META
from pend_storage.dualwrite._log_position import LogRewound
from pend_storage.dualwrite._replication_position import (
    POSITION_META,
    TAINTED_META,
    ReplicationPosition,
    changes_after,
    is_complete_for,
    log_has,
)
from pend_storage.dualwrite._roles import Side, other
from pend_storage.errors import (
    ChangesExpired,
    Conflict,
    StoreUnavailable,
)
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.store import Store

__all__ = ["ForcedPromotion", "force_promotion"]

_SHOWN: Final = 1_000
_AT_ONCE: Final = 200
_VOTED_OUT: Final = declare(
    "vote.detached", "the other store is voted out, the chosen one is not primary yet"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForcedPromotion:
    """Outcome of a forced promotion."""

    primary: Side
    epoch: int
    missing: tuple[Change, ...] | None
    """Commits of the other store that the primary never got, the first thousand; where its
    log does not show it (it was rewound, or the primary lacks a backfill of what lies before
    the place from which it followed), the records of the other store that the primary has
    in another version or not at all, one in each. None where this is not known: the
    other one cannot be asked, or the primary never followed it."""
    is_other_reachable: bool
    """If not, see that no server uses it any more; when it is back, promote once more."""


def force_promotion(json: Store, postgres: Store, side: Side) -> ForcedPromotion:
    """Promote a store to primary, and detach the other one; no server may run meanwhile.

    An interrupted promotion is repeated. The other store must be emptied before it can
    follow again: records that it has and the primary does not know of could never be
    overwritten.

    Args:
        json: the one store.
        postgres: the other one.
        side: of the store that holds the truth from now on.

    Raises:
        StoreUnavailable: the store that is to be primary cannot be reached.
        Conflict: roles are changing at this moment; end the server that does so, and repeat.
    """
    stores: dict[Side, Store] = {"json": json, "postgres": postgres}
    chosen, rest = stores[side], stores[other(side)]
    epoch = 1 + max(_epoch(store) for store in stores.values())
    missing, reachable = None, True
    try:
        missing = _missing(chosen, rest)
        _set(rest, Role.DETACHED, epoch)
        rest.compare_and_set_meta(TAINTED_META, rest.meta(TAINTED_META), {"by": epoch})
        # Its mark and witness are positions in a log that has changed: they prove nothing.
        for name in (POSITION_META, WITNESS_META):
            rest.compare_and_set_meta(name, rest.meta(name), None)
    except StoreUnavailable:
        reachable = False
    # The other one is detached first: two primaries at a time would both take commits.
    _VOTED_OUT()
    _set(chosen, Role.PRIMARY, epoch)
    chosen.compare_and_set_meta(TAINTED_META, chosen.meta(TAINTED_META), None)
    return ForcedPromotion(
        primary=side, epoch=epoch, missing=missing, is_other_reachable=reachable
    )


def _epoch(store: Store) -> int:
    try:
        return store.role().epoch
    except StoreUnavailable:
        return 0


def _missing(chosen: Store, rest: Store) -> tuple[Change, ...] | None:
    """Return what only the loser has: from its log, or from its records."""
    # The log of a former primary shows it where the winner has followed from the beginning,
    # or has a complete backfill of what was there before. Otherwise the mark of the winner
    # proves nothing about what lies before it, and the records are compared. What a
    # follower of the winner has is in its records alone, and so where a log was rewound.
    mark, back = ReplicationPosition.load(chosen), ReplicationPosition.load(rest)
    known = back is not None and back.source == chosen.identity()
    # The loser has followed the winner once, which has lost some of that since.
    is_set_back = back is not None and known and _is_lost(chosen, back)
    found: Iterator[Change] | None = None
    if rest.role().role is Role.SECONDARY:
        if known:
            found = _records_of_its_own(chosen, rest, is_rewound=is_set_back)
    elif mark is not None and mark.source == rest.identity():
        found = (
            _records_of_its_own(chosen, rest, is_rewound=True)
            if is_set_back
            or _is_lost(rest, mark)
            or not is_complete_for(rest, chosen, mark)
            else changes_after(rest, mark)
        )
    elif is_set_back:
        found = _records_of_its_own(chosen, rest, is_rewound=True)
    try:
        return None if found is None else tuple(islice(found, _SHOWN))
    except ChangesExpired:
        return None


def _is_lost(store: Store, mark: ReplicationPosition) -> bool:
    """Return whether the log of a store was rewound to before a mark."""
    try:
        log_has(store, mark)
    except LogRewound:
        return True
    return False


def _records_of_its_own(
    chosen: Store, rest: Store, *, is_rewound: bool
) -> Iterator[Change]:
    """Yield each record that the chosen store lacks, as a commit.

    Args:
        chosen: the winner.
        rest: the loser.
        is_rewound: versions prove nothing any more, so all that differs counts. Else a
            lower version does not count, because a follower may be behind.
    """
    epoch, now = rest.role().epoch, datetime.now(UTC)
    for spec in rest.schema:
        rows = rest.scan(spec.name, deleted=True)
        while page := list(islice(rows, _AT_ONCE)):
            there = chosen.read(spec.name, [row.key for row in page], deleted=True)
            for row in page:
                same = there.get(row.key)
                if _is_its_own(row, same, is_rewound=is_rewound):
                    record = ChangedRecord(spec.name, row.key, row.version, row.record)
                    yield Change(row.version, epoch, now, (record,))


def _is_its_own(row: Row, there: Row | None, *, is_rewound: bool) -> bool:
    """Return whether the winner lacks what the loser has; args as above."""
    if there is None or row.version > there.version:
        return True
    # One version with two values: a log was rewound, and has used the version again.
    is_compared = is_rewound or row.version == there.version
    return is_compared and not _is_same(there, row)


def _is_same(left: Row, right: Row) -> bool:
    if left.version != right.version:
        return False
    if left.record is None or right.record is None:
        return left.record is right.record
    return not differences(left.record, right.record)


def _set(store: Store, role: Role, epoch: int) -> None:
    found = store.meta(ROLE_META)
    wanted = RoleState(role, epoch).to_meta()
    if not store.compare_and_set_meta(ROLE_META, found, wanted):
        now = store.role()
        raise Conflict(
            collection="the role of a store",
            key=f"{now.role} at epoch {now.epoch}",
            expected=epoch,
            actual=now.epoch,
        )
