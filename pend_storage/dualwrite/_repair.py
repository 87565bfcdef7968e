"""Repair of diverging records from the live primary, extra ones included.

No earlier finding is trusted: each record is read anew, and what the primary has then is
applied. Where the secondary's version stands in the way, the repair has a higher one; that
is safe as long as the primary assigns only higher ones from then on, so that the next write
of that key wins. So the primary is made to count on, by commits that mean nothing, until
its change log has such a number; and only then is the record read that is applied. The
other way round, a write between the two could get a version too low to win.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

from pend_storage._model.diff import differences
from pend_storage._model.records import EDITED, ChangedRecord, LegacyFile, Row
from pend_storage.crashpoints import declare
from pend_storage.dualwrite._divergence_check import Place
from pend_storage.dualwrite._route import Route
from pend_storage.errors import (
    InvalidRecord,
    PendStorageError,
    ReferenceViolation,
    UniqueViolation,
)
from pend_storage.schema import LEGACY_FILES, QUARANTINE
from pend_storage.store import Store

__all__ = ["Repair", "RepairReport", "repair"]

_AT_ONCE: Final = 200
_SHORT: Final = 16
"""Versions by which a repair may raise the counter of the primary."""
_PATIENCE: Final = 5.0
_PAUSE: Final = 0.01
_READ: Final = declare(
    "repair.read", "what the primary has was read, the secondary is not repaired yet"
)
_REPAIRED: Final = declare(
    "repair.applied", "some records are repaired, others not yet"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """Action on one record, done or planned."""

    collection: str
    key: str
    action: Literal["write", "delete", "none", "refused"]
    """None: it is equal by now. Refused: the secondary is ahead of everything that the
    primary knows; detach it, empty it, attach it again and backfill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """Outcome of a repair."""

    repairs: tuple[Repair, ...]
    dry_run: bool

    @property
    def repaired(self) -> int:
        """Number of records that were written or deleted, or would be."""
        return sum(item.action in {"write", "delete"} for item in self.repairs)

    @property
    def ok(self) -> bool:
        """True where no repair was refused."""
        return not any(item.action == "refused" for item in self.repairs)


def repair(
    route: Route, places: Iterable[Place], *, dry_run: bool = False
) -> list[Repair]:
    """Repair records of the secondary from the primary, in batches.

    Args:
        route: the primary and its follower.
        places: collection and key of each record.
        dry_run: only plan the actions.

    Returns:
        The action on each record.

    Raises:
        StaleEpoch: the roles have changed meanwhile; begin again.
        StoreUnavailable: a store cannot be reached.
        UniqueViolation: another record of the secondary conflicts: validate again.
    """
    rest = iter(sorted(set(places)))
    done: list[Repair] = []
    held: list[ChangedRecord] = []
    refusal: PendStorageError | None = None
    while batch := list(islice(rest, _AT_ONCE)):
        planned = _plan(route, batch, dry_run=dry_run)
        done += [item for item, _ in planned]
        held += [record for _, record in planned if record is not None]
        if dry_run or not held:
            continue
        try:
            _apply(route, held)
        except (UniqueViolation, ReferenceViolation, InvalidRecord) as error:
            refusal = error  # the conflicting record may be repaired with the next ones
        else:
            held, refusal = [], None
    if refusal is not None:
        raise refusal
    return done


def _apply(route: Route, records: list[ChangedRecord]) -> None:
    route.secondary.apply(records, epoch=route.epoch)
    _REPAIRED()


def _plan(
    route: Route, places: list[Place], *, dry_run: bool
) -> list[tuple[Repair, ChangedRecord | None]]:
    """Return the action on each record, and what is to be applied."""
    there = _rows(route.secondary, places, None)
    here = _rows(route.store, places, route.epoch)
    head = route.store.head()  # all that is committed later gets higher versions
    if dry_run:
        head += _SHORT
    else:
        needed = [
            _next(here.get(place), row)
            for place, row in there.items()
            if not _settled(place, here.get(place), row)
        ]
        reachable = [version for version in needed if version <= head + _SHORT]
        head = _count_on(route, head, max(reachable, default=0))
        here = _rows(route.store, places, route.epoch)
        _READ()
    return [
        _plan_one(place, here.get(place), there.get(place), head) for place in places
    ]


def _rows(store: Store, places: list[Place], epoch: int | None) -> dict[Place, Row]:
    found: dict[Place, Row] = {}
    for collection in sorted({name for name, _ in places}):
        keys = [key for name, key in places if name == collection]
        rows = store.read(collection, keys, deleted=True, epoch=epoch)
        found.update({(collection, key): row for key, row in rows.items()})
    return found


def _next(here: Row | None, there: Row) -> int:
    """Return the version that the primary has to count on to; 0 where its row is newer."""
    return 1 + there.version if here is None or here.version <= there.version else 0


def _count_on(route: Route, head: int, version: int) -> int:
    """Raise the primary's counter above a version; return its head by then.

    It may fall short: in PostgreSQL, a transaction that stays open holds the head back.
    """
    # The head alone is not enough: in PostgreSQL it lies above the end of the log, and only
    # the log goes along where the database is moved to another server.
    schema = route.store.schema
    put = schema.put(LEGACY_FILES, LegacyFile(file="repair"))
    delete = schema.delete(LEGACY_FILES, put.key)
    deadline, end = time.monotonic() + _PATIENCE, 0
    while min(head, end) < version and time.monotonic() < deadline:
        for operation in (put, delete):
            given = route.store.commit(schema.batch((operation,)), epoch=route.epoch)
            end = max(end, *given)
        before, head = head, route.store.head()
        if head == before:
            time.sleep(_PAUSE)
    return min(head, end) if version else head


def _plan_one(
    place: Place, here: Row | None, there: Row | None, head: int
) -> tuple[Repair, ChangedRecord | None]:
    collection, key = place
    if _settled(place, here, there):
        return Repair(collection=collection, key=key, action="none"), None
    wanted = None if here is None else here.record
    known = 0 if here is None else here.version
    version = max(known, 1 + (0 if there is None else there.version))
    if version > max(known, head):
        return Repair(collection=collection, key=key, action="refused"), None
    action: Literal["write", "delete"] = "delete" if wanted is None else "write"
    return (
        Repair(collection=collection, key=key, action=action),
        ChangedRecord(collection, key, version, wanted),
    )


def _settled(place: Place, here: Row | None, there: Row | None) -> bool:
    """Return whether nothing has to be done: both are equal, or it is kept on purpose."""
    wanted = None if here is None else here.record
    found = None if there is None else there.record
    if _equal(wanted, found):
        return True
    # An edit that was set aside is the secondary's own until it is replicated.
    aside = place[0] == QUARANTINE and here is None
    return aside and found is not None and found.code == EDITED


def _equal(left: object, right: object) -> bool:
    """Return whether two records are equal by value, or both absent."""
    if left is None or right is None:
        return left is right
    return not differences(left, right)
