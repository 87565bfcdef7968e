"""Chain of audit seals: entries are sealed in the order of the change log, beside commits.

A commit adds its entries, and waits for no other. Later a seal lists them with their
digests, and the digest of the seal before it. A seal has the number after the last one as
its key, and its commit demands that there is none: so of several processes that seal at
once one wins, and there is one chain.

What is to be sealed is read from the store's own change log, in which no later read finds
an earlier entry. After a change of roles, or where the log is pruned, entries are found by
their positions instead: those of a former primary are not in the log of this one.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Final, NamedTuple

from pend_storage._model.attribution import new_token
from pend_storage._model.audit import (
    AUDIT,
    ERASED_SUFFIX,
    GENESIS,
    SEAL,
    AuditEntry,
    Seal,
    SealedEntry,
    digest_of,
    is_seal,
    newest_seal_place,
    seal_id,
)
from pend_storage._model.records import Batch, Change
from pend_storage.contract import StoreBackend
from pend_storage.errors import ChangesExpired, Conflict

__all__ = ["SEALED_AT_ONCE", "Anchor", "KnownSeal", "newest_seal", "seal", "seals"]

SEALED_AT_ONCE: Final = 200
"""Entries of one seal; those of one commit are never divided, and may be more."""
_NO_LOG: Final = ("", 0)
"""Log of a seal after which entries are still found by their positions."""
_MOST_ROUNDS: Final = 1_000
"""Seals that one call makes at most: others may go on writing."""
_MOST_READ: Final = 10_000
"""Commits without an entry after which an empty seal marks how far the log was read."""


class Anchor(NamedTuple):
    """Anchor: number and digest of a seal, which prove all entries up to it."""

    number: int
    digest: str


class KnownSeal(NamedTuple):
    """Seal in the store, with its digest."""

    seal: Seal
    digest: str
    position: int
    at: datetime

    @property
    def anchor(self) -> Anchor:
        """Number and digest."""
        return Anchor(self.seal.number, self.digest)


class _Run(NamedTuple):
    """Entries to seal, and the position up to which there are no others."""

    entries: tuple[SealedEntry, ...]
    upto: int
    log: tuple[str, int]
    """Log that was read to that position."""
    is_due: bool
    """False: nothing is to be sealed now."""


def seals(store: StoreBackend) -> Iterator[KnownSeal]:
    """Iterate over the seals, the newest first.

    Raises:
        ValueError: one cannot be parsed, or is of a version that this program lacks.
    """
    for row in store.scan(AUDIT, after=newest_seal_place()):
        if not is_seal(row.key):
            return
        entry: AuditEntry = row.record
        found = Seal.from_content(entry.content or "")
        yield KnownSeal(found, digest_of(entry), row.version, entry.at)


def newest_seal(store: StoreBackend) -> KnownSeal | None:
    """Return the newest seal; None where there is none."""
    return next(seals(store), None)


def seal(store: StoreBackend, *, most: int = SEALED_AT_ONCE) -> int:
    """Seal the entries that are not sealed yet, and return their number.

    Any number of processes may call it at once, while others commit.

    Args:
        store: the environment's; it must be primary.
        most: entries of one seal.

    Raises:
        StoreUnavailable: it cannot be reached.
        StaleEpoch: it is not primary.
    """
    sealed = 0
    if next(store.scan(AUDIT), None) is None:
        return 0  # without entries, the log need not be read
    for _ in range(_MOST_ROUNDS):
        last = newest_seal(store)
        own = store.own_log()
        log = (own.identity(), own.role().epoch)
        run = _next_run(own, last, log, most)
        if not run.is_due:
            break
        made = Seal(
            1 if last is None else last.seal.number + 1,
            GENESIS if last is None else last.digest,
            run.upto,
            run.log,
            run.entries,
        )
        try:
            _commit(store, made)
        except Conflict:  # another process made the seal of this number
            continue
        sealed += len(run.entries)
    return sealed


def _commit(store: StoreBackend, made: Seal) -> None:
    entry = AuditEntry(
        id=seal_id(made.number),
        at=datetime.now(UTC),
        action=SEAL,
        content=made.to_content(),
    )
    put = store.schema.entry(entry)
    store.commit(Batch((put,), {(AUDIT, put.key): 0}, new_token(), None, None))


def _next_run(
    own: StoreBackend, last: KnownSeal | None, log: tuple[str, int], most: int
) -> _Run:
    """Find the entries of the next seal."""
    after = 0 if last is None else last.seal.upto
    if last is not None and last.seal.log == log:
        try:
            return _from_log(own.changes(after), after, log, most)
        except ChangesExpired:
            pass  # pruned since the last seal
    end = _log_end(own, after, log[1])
    if end <= after:
        # The first commit at this epoch shows where those of another primary end. Where there
        # is none yet, an empty seal is it.
        waiting = (
            row.version > after and _is_sealed_once(row.key) for row in own.scan(AUDIT)
        )
        return _Run((), after, _NO_LOG, is_due=any(waiting))
    found = _from_rows(own, after, end, log, most)
    # An empty seal, too: from it on, the log of this store tells what is new.
    return found._replace(is_due=bool(found.entries) or last is not None)


def _from_log(
    changes: Iterator[Change], after: int, log: tuple[str, int], most: int
) -> _Run:
    found: list[SealedEntry] = []
    read = 0
    for change in changes:
        if change.epoch != log[1]:
            # The store was primary again meanwhile: entries of the primary between are not
            # in this log, and are found as those of another log.
            break
        after, read = change.sequence, read + 1
        found += [
            SealedEntry(r.key, r.version, digest_of(r.record))
            for r in change.records
            if r.collection == AUDIT and r.record is not None and _is_sealed_once(r.key)
        ]
        if len(found) >= most or read >= _MOST_READ:
            break
    return _Run(tuple(found), after, log, is_due=bool(found) or read >= _MOST_READ)


def _log_end(own: StoreBackend, after: int, epoch: int) -> int:
    """Return the end of the log: no entry that is not there yet comes before it.

    It is 0 where the last commit is of another epoch. The one that was primary since then
    may have made entries with higher numbers, and this log will never show them.
    """
    try:
        newest = deque(own.changes(after), maxlen=1)
    except ChangesExpired as expired:
        newest = deque(own.changes(expired.oldest), maxlen=1)
    return newest[0].sequence if newest and newest[0].epoch == epoch else 0


def _from_rows(
    own: StoreBackend, after: int, end: int, log: tuple[str, int], most: int
) -> _Run:
    """Find the first entries by position, in bounded memory."""
    order = count()
    rows = (
        (row.version, row.key, next(order), row.record)
        for row in own.scan(AUDIT)
        if after < row.version <= end and _is_sealed_once(row.key)
    )
    first = heapq.nsmallest(most + 1, rows)
    is_all = len(first) <= most
    if not is_all:
        cut = first[-1][0]
        if first[0][0] == cut:  # one commit has more of them
            end = cut
            first = sorted(
                (row.version, row.key, next(order), row.record)
                for row in own.scan(AUDIT)
                if row.version == cut and _is_sealed_once(row.key)
            )
        else:
            first = [item for item in first if item[0] < cut]
            end = first[-1][0]
    entries = tuple(SealedEntry(k, v, digest_of(r)) for v, k, _, r in first)
    return _Run(entries, end, log if is_all else _NO_LOG, is_due=bool(entries))


def _is_sealed_once(entry_id: str) -> bool:
    """Return whether seals list an id: neither that of a seal, nor of an erased entry."""
    return not is_seal(entry_id) and not entry_id.endswith(ERASED_SUFFIX)
