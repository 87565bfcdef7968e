"""The way out where a store was restored from a backup, replaced, or is lost for good.

No switch leads there, because a switch needs both stores and loses nothing. Here somebody
decides which store holds the truth from now on; what only the other one had is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from pend_storage._records import Change, ChangedRecord, Row
from pend_storage.crashpoints import declare
from pend_storage.diff import differences
from pend_storage.dualwrite.continuity import WITNESS_META
from pend_storage.dualwrite.marks import (
    MARK_META,
    SPOILED_META,
    Mark,
    covers,
    has_mark,
    news,
)
from pend_storage.dualwrite.positions import Rewound
from pend_storage.dualwrite.roles import Side, other
from pend_storage.errors import (
    ChangesExpired,
    Conflict,
    StoreUnavailable,
)
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.store import Store

__all__ = ["Election", "elect"]

_SHOWN: Final = 1_000
_AT_ONCE: Final = 200
_VOTED_OUT: Final = declare(
    "vote.detached", "the other store is voted out, the chosen one is not primary yet"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Election:
    """What was decided."""

    primary: Side
    epoch: int
    missing: tuple[Change, ...] | None
    """Commits of the other store that the primary never got, the first thousand; where its
    log cannot tell (it was rewound, or the primary lacks a backfill of what lies before
    the place from which it followed), the records of the other store that the primary has
    in another version or not at all, one in each. None where this cannot be told: the
    other one cannot be asked, or the primary never followed it."""
    is_other_reachable: bool
    """If not, see that nobody uses it any more. When it is back, decide once more."""


def elect(json: Store, postgres: Store, side: Side) -> Election:
    """Make this store primary, and detach the other one; nothing else may be running.

    Where that was interrupted, do it again. The other one must be emptied before it can
    follow again: what it holds and the primary does not know of could never be
    overwritten. What it knew of the primary's log means nothing any more, and is removed.

    Args:
        json: the one store.
        postgres: the other one.
        side: which of them holds the truth.

    Raises:
        StoreUnavailable: the store that is to be primary cannot be reached.
        Conflict: roles are changing at this moment; end whoever does that, and repeat.
    """
    stores: dict[Side, Store] = {"json": json, "postgres": postgres}
    chosen, rest = stores[side], stores[other(side)]
    epoch = 1 + max(_epoch(store) for store in stores.values())
    missing, reachable = None, True
    try:
        missing = _missing(chosen, rest)
        _set(rest, Role.DETACHED, epoch)
        rest.compare_and_set_meta(SPOILED_META, rest.meta(SPOILED_META), {"by": epoch})
        for name in (MARK_META, WITNESS_META):
            rest.compare_and_set_meta(name, rest.meta(name), None)
    except StoreUnavailable:
        reachable = False
    _VOTED_OUT()
    _set(chosen, Role.PRIMARY, epoch)
    chosen.compare_and_set_meta(SPOILED_META, chosen.meta(SPOILED_META), None)
    return Election(
        primary=side, epoch=epoch, missing=missing, is_other_reachable=reachable
    )


def _epoch(store: Store) -> int:
    try:
        return store.role().epoch
    except StoreUnavailable:
        return 0


def _missing(chosen: Store, rest: Store) -> tuple[Change, ...] | None:
    """What only the loser has: from its log, or from its records.

    The log of a former primary tells it where the winner has followed from the beginning,
    or has a complete backfill of what was there before. Otherwise the mark of the winner
    proves nothing about what lies before its base, and the records are compared. What a
    follower of the winner has is in its records alone, and so where a log was rewound.
    """
    mark, back = Mark.load(chosen), Mark.load(rest)
    known = back is not None and back.of == chosen.identity()
    # The loser has followed the winner once, which has lost some of that since.
    is_set_back = back is not None and known and _is_lost(chosen, back)
    found: Iterator[Change] | None = None
    if rest.role().role is Role.SECONDARY:
        if known:
            found = _records_of_its_own(chosen, rest, is_rewound=is_set_back)
    elif mark is not None and mark.of == rest.identity():
        found = (
            _records_of_its_own(chosen, rest, is_rewound=True)
            if is_set_back or _is_lost(rest, mark) or not covers(rest, chosen, mark)
            else news(rest, mark)
        )
    elif is_set_back:
        found = _records_of_its_own(chosen, rest, is_rewound=True)
    try:
        return None if found is None else tuple(islice(found, _SHOWN))
    except ChangesExpired:
        return None


def _is_lost(store: Store, mark: Mark) -> bool:
    """Whether the log of a store was rewound to before a mark."""
    try:
        has_mark(store, mark)
    except Rewound:
        return True
    return False


def _records_of_its_own(
    chosen: Store, rest: Store, *, is_rewound: bool
) -> Iterator[Change]:
    """Each record that the chosen store lacks, as a commit.

    Args:
        chosen: the winner.
        rest: the loser.
        is_rewound: numbers tell nothing any more: whatever differs counts. Else a lower
            version does not count, because a follower may be behind.
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
    """Whether the winner lacks what the loser has; see :func:`_records_of_its_own`."""
    if there is None or row.version > there.version:
        return True
    # One version with two values: a log was rewound, and has given the number again.
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
