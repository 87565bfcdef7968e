"""Brings what diverges in line with the live primary, ghosts included.

Nothing found earlier is trusted: each record is read anew, the secondary first, and what
the primary has then is applied. Where the secondary's version stands in the way, it gets
a higher one; that is safe as long as the primary gives only higher ones from now on, so
that whatever is written next to that key wins. Where the primary is a little short of
that, it is made to count on, by commits that mean nothing.

One thing only the secondary may know: what somebody wrote into a legacy file while JSON
was secondary waits in its quarantine. That is no ghost, and the primary takes it over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

from pend_storage.crashpoints import declare
from pend_storage.diff import differences
from pend_storage.dualwrite.compare import Place
from pend_storage.dualwrite.routing import Route
from pend_storage.errors import (
    Conflict,
    InvalidRecord,
    PendStorageError,
    ReferenceViolation,
    UniqueViolation,
)
from pend_storage.records import ChangedRecord, LegacyFile, Row
from pend_storage.schema import LEGACY_FILES, QUARANTINE

__all__ = ["Repair", "RepairReport", "repair"]

_AT_ONCE: Final = 200
_SHORT: Final = 16
"""How far the primary may be made to count on."""
_REPAIRED: Final = declare(
    "repair.applied", "some records are repaired, others not yet"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What was done, or would be done, about one record."""

    collection: str
    key: str
    action: Literal["write", "delete", "keep", "none", "refused"]
    """Keep: a quarantined record that only the secondary had is in the primary as well
    now. None: it is equal by now. Refused: the secondary is ahead of everything that the
    primary knows; detach it, empty it, attach it again and backfill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """The outcome of a repair."""

    repairs: tuple[Repair, ...]
    dry_run: bool

    @property
    def repaired(self) -> int:
        """How many records were written, deleted or kept, or would be."""
        done = {"write", "delete", "keep"}
        return sum(item.action in done for item in self.repairs)

    @property
    def ok(self) -> bool:
        """Whether nothing is left that could not be repaired."""
        return not any(item.action == "refused" for item in self.repairs)


def repair(
    route: Route, places: Iterable[Place], *, dry_run: bool = False
) -> list[Repair]:
    """Repair these records, some at a time.

    Raises:
        StaleEpoch: roles have changed meanwhile; begin again.
        StoreUnavailable: a store cannot be reached.
        UniqueViolation: something else in the secondary is in the way: validate again.
    """
    rest = iter(sorted(set(places)))
    done: list[Repair] = []
    held: list[ChangedRecord] = []
    refusal: PendStorageError | None = None
    while batch := list(islice(rest, _AT_ONCE)):
        planned = list(_plan(route, batch, short=_SHORT))
        if not dry_run and _count_on(route, [r for _, r in planned if r is not None]):
            # What was committed meanwhile counts, and what is still ahead is refused.
            planned = list(_plan(route, batch, short=0))
        done += [item for item, _ in planned]
        if not dry_run:
            _keep(route, [item.key for item, _ in planned if item.action == "keep"])
        held += [record for _, record in planned if record is not None]
        if dry_run or not held:
            continue
        try:
            _apply(route, held)
        except (UniqueViolation, ReferenceViolation, InvalidRecord) as error:
            refusal = error  # perhaps what is in the way is repaired with the next ones
        else:
            held, refusal = [], None
    if refusal is not None:
        raise refusal
    return done


def _count_on(route: Route, records: list[ChangedRecord]) -> bool:
    """See that later commits get higher versions than these; whether they did not yet."""
    version = max((record.version for record in records), default=0)
    if route.store.head() >= version:
        return False
    schema = route.store.schema
    put = schema.put(LEGACY_FILES, LegacyFile(file="repair"))
    delete = schema.delete(LEGACY_FILES, put.key)
    for _ in range(_SHORT):
        for operation in (put, delete):
            route.store.commit(schema.batch((operation,)), epoch=route.epoch)
        if route.store.head() >= version:
            break  # later than that only where others have long transactions
    return True


def _keep(route: Route, keys: list[str]) -> None:
    """Let the primary have quarantined records that only the secondary has."""
    assert route.follower is not None  # noqa: S101 - its callers have looked
    schema, rows = route.store.schema, route.follower.read(QUARANTINE, keys)
    _count_on(route, [ChangedRecord(QUARANTINE, *row) for row in rows.values()])
    for key, row in rows.items():
        put, unknown = schema.put(QUARANTINE, row.record), {(QUARANTINE, key): 0}
        with contextlib.suppress(Conflict):  # somebody else was quicker
            route.store.commit(schema.batch((put,), unknown), epoch=route.epoch)


def _apply(route: Route, records: list[ChangedRecord]) -> None:
    assert route.follower is not None  # noqa: S101 - its callers have looked
    route.follower.apply(records, epoch=route.epoch)
    _REPAIRED()


def _plan(
    route: Route, places: list[Place], *, short: int
) -> Iterator[tuple[Repair, ChangedRecord | None]]:
    assert route.follower is not None  # noqa: S101 - its callers have looked
    head = route.store.head()  # all that is committed later gets higher versions
    for collection in sorted({name for name, _ in places}):
        keys = [key for name, key in places if name == collection]
        there = route.follower.read(collection, keys, deleted=True)
        here = route.store.read(collection, keys, deleted=True, epoch=route.epoch)
        for key in keys:
            yield _plan_one(
                collection, key, here.get(key), there.get(key), head + short
            )


def _plan_one(
    collection: str, key: str, here: Row | None, there: Row | None, limit: int
) -> tuple[Repair, ChangedRecord | None]:
    wanted = None if here is None else here.record
    found = None if there is None else there.record
    if _equal(wanted, found):
        return Repair(collection=collection, key=key, action="none"), None
    if collection == QUARANTINE and here is None:
        return Repair(collection=collection, key=key, action="keep"), None
    known = 0 if here is None else here.version
    version = max(known, 1 + (0 if there is None else there.version))
    if version > max(known, limit):
        return Repair(collection=collection, key=key, action="refused"), None
    action: Literal["write", "delete"] = "delete" if wanted is None else "write"
    return (
        Repair(collection=collection, key=key, action=action),
        ChangedRecord(collection, key, version, wanted),
    )


def _equal(left: object, right: object) -> bool:
    """Equal by value, and both there or neither."""
    if left is None or right is None:
        return left is right
    return not differences(left, right)
