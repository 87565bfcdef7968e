"""Retention of the audit: prunes its oldest part, and erases personal values in the rest.

What is deleted is named by an entry that stays: of a pruning the seal up to which all is
gone, with its digest, so that the chain is continued from there; of an erasure the ids. The
entry is written first, or in the same commit. So an interrupted pruning is repeated, and a
verification tells what was let go from what was taken away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Final, TypeVar

import msgspec

from pend_storage import crashpoints
from pend_storage._audit_chain import KnownSeal, seal, seals
from pend_storage._model.attribution import Actor, new_token
from pend_storage._model.audit import (
    AUDIT,
    ERASED_SUFFIX,
    ERASURE,
    PRUNING,
    Seal,
    entry_id,
    is_seal,
    new_entry,
    position_of,
)
from pend_storage._model.records import Batch, Delete, Put, Row
from pend_storage.contract import StoreBackend
from pend_storage.query import field, make_query

__all__ = ["Erased", "PrunedAudit", "erase", "prunable", "prune"]

T = TypeVar("T")

_AT_ONCE: Final = 100
"""Entries that one commit deletes."""
_PURGED_AT_ONCE: Final = 10_000

_NAMED: Final = crashpoints.declare(
    "audit.prune.named", "the pruning is in the audit, nothing is deleted yet"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedAudit:
    """Outcome of a pruning."""

    entries: int
    """Entries that were deleted, or would be."""
    seal: int
    """Number of the seal up to which all entries are gone; 0: none."""
    is_clean: bool = True
    """False where the change log of a store still holds some of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """Outcome of an erasure."""

    entries: int
    """Entries whose key and values were erased."""
    is_clean: bool
    """False where the change log of a store still holds some of them."""


def prunable(store: StoreBackend, before: datetime) -> KnownSeal | None:
    """Return the newest seal that was made before a time: its entries are older."""
    return next((known for known in seals(store) if known.at < before), None)


def prune(
    store: StoreBackend, *, before: datetime, author: Actor, dry_run: bool = False
) -> PrunedAudit:
    """Prune the entries up to the last seal before a time.

    Args:
        store: the environment's.
        before: entries sealed at this time and later stay.
        author: of the pruning.
        dry_run: count them only.

    Raises:
        ConfigError: the role may not delete entries.
        StoreUnavailable: a store cannot be reached.
    """
    last = prunable(store, before)
    if last is None:
        return PrunedAudit(entries=0, seal=0)
    number, upto = last.seal.number, last.seal.upto
    if dry_run:
        count = sum(1 for _ in _old(store, number, upto))
        return PrunedAudit(entries=count, seal=number)
    details = {"seal": number, "digest": last.digest, "upto": str(upto)}
    token = new_token()
    named = store.schema.entry(
        new_entry(entry_id(token, 0), PRUNING, author, values=details)
    )
    store.commit(Batch((named,), {}, token, author.by, author.reason))
    _NAMED()
    done, is_clean = 0, True
    gone: list[str] = []
    for chunk in _chunks(_old(store, number, upto), _AT_ONCE):
        keys = [row.key for row in chunk]
        _let_go(store, [Delete(AUDIT, key) for key in keys], author)
        done += len(keys)
        gone += keys
        seal(store)
        if len(gone) >= _PURGED_AT_ONCE:
            is_clean = store.purge(AUDIT, gone) and is_clean
            gone = []
    if gone:
        is_clean = store.purge(AUDIT, gone) and is_clean
    return PrunedAudit(entries=done, seal=number, is_clean=is_clean)


def _old(store: StoreBackend, number: int, upto: int) -> Iterator[Row]:
    """Yield the entries up to a position, and the seals before a number.

    The seal of that number stays: from it on, the chain is continued.
    """
    for row in store.scan(AUDIT):
        if is_seal(row.key):
            if Seal.from_content(row.record.content or "").number < number:
                yield row
        else:
            position = position_of(row)
            if position is not None and position <= upto:
                yield row


def erase(
    store: StoreBackend, collection: str, keys: Iterable[str], *, author: Actor
) -> Erased:
    """Erase key and values of the entries of some records; the entries themselves stay.

    Args:
        store: the environment's.
        collection: of the records.
        keys: of the records.
        author: of the erasure.

    Raises:
        ConfigError: the role may not delete entries.
        StoreUnavailable: a store cannot be reached.
    """
    wanted = sorted(set(keys))
    if not wanted or next(store.scan(AUDIT), None) is None:
        return Erased(entries=0, is_clean=True)
    seal(store)  # afterwards, the seals prove what is erased here
    gone: list[str] = []
    for part in _chunks(wanted, _AT_ONCE):
        where = (field("collection") == collection, field("key").in_(part))
        rows = store.query(AUDIT, make_query(store.schema[AUDIT], where))
        for chunk in _chunks(rows, _AT_ONCE):
            _erase(store, chunk, collection, author)
            gone += [row.key for row in chunk]
    seal(store)  # a purge may drop the log, which proves what is not sealed
    is_clean = store.purge(AUDIT, gone) if gone else True
    return Erased(entries=len(gone), is_clean=is_clean)


def _erase(
    store: StoreBackend, rows: Sequence[Row], collection: str, author: Actor
) -> None:
    schema, now = store.schema, datetime.now(UTC)
    operations: list[Put | Delete] = []
    for row in rows:
        content = msgspec.json.encode({"position": str(row.version)}).decode()
        empty = replace(
            row.record,
            id=row.key + ERASED_SUFFIX,
            key=None,
            content=content,
            salt=None,
            erased_at=now,
        )
        operations += [Delete(AUDIT, row.key), schema.entry(empty)]
    ids = [row.key for row in rows]
    details = {"collection": collection, "entries": ids}
    named = new_entry(entry_id(new_token(), 0), ERASURE, author, values=details)
    operations.append(schema.entry(named))
    _let_go(store, operations, author)


def _let_go(
    store: StoreBackend, operations: Sequence[Put | Delete], author: Actor
) -> None:
    store.commit(
        Batch(
            tuple(operations),
            {},
            new_token(),
            author.by,
            author.reason,
            lets_go=True,
        )
    )


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk
