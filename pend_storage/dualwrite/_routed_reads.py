"""Reads of a pair: answered by the primary, and sampled for comparison."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from typing_extensions import override

from pend_storage._layouts.layout import Layout
from pend_storage._layouts.listing import Listing
from pend_storage._layouts.unread_files import UnreadFile
from pend_storage._model.records import (
    Row,
)
from pend_storage.dualwrite._canary_reads import CanaryReads
from pend_storage.dualwrite._router import Router
from pend_storage.dualwrite._shadow_reads import ShadowReadSampler
from pend_storage.dualwrite._unread_file_guard import UnreadFileGuard
from pend_storage.errors import (
    StaleEpoch,
)
from pend_storage.phases import Role
from pend_storage.query import And, Condition, Query
from pend_storage.store import Store, unread_in

__all__ = ["PAIR_NAME", "RoutedReads", "require_no_epoch"]

PAIR_NAME: Final = "the pair of stores"
"""How messages call a pair."""


class RoutedReads(Store):
    """Reading verbs of the contract, answered by the primary of a pair.

    The parts are made by :class:`~pend_storage.dualwrite.DualWriteStore`.
    """

    _router: Router
    _shadow_reads: ShadowReadSampler
    _canary: CanaryReads
    _unread: UnreadFileGuard

    # -- reads: the primary's answer ------------------------------------------------------

    @override
    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        require_no_epoch(epoch)
        wanted = list(keys)

        def read_at(store: Store, at: int | None) -> dict[str, Row]:
            rows = store.read(collection, wanted, deleted=deleted, epoch=at)
            if not deleted and not store.refuses_unread:
                self._unread.require_rows(store, at, collection, wanted, rows)
            return rows

        canary = self._canary
        if canary.share and not deleted:
            rows = canary.read(collection, wanted, read_at)
        else:
            rows = self._router.call_reading(read_at)
        self._shadow_reads.sample_keys(collection, wanted)
        return rows

    @override
    def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        require_no_epoch(epoch)

        def read_at(store: Store, at: int | None) -> list[Row]:
            rows = store.query(collection, query, epoch=at)
            if not store.refuses_unread:
                found = len(rows)
                self._unread.require_all(store, at, collection, query.where, found)
            return rows

        rows = self._router.call_reading(read_at)
        self._shadow_reads.sample_query(collection, query)
        return rows

    @override
    def count(
        self, collection: str, where: Condition, *, epoch: int | None = None
    ) -> int:
        require_no_epoch(epoch)

        def read_at(store: Store, at: int | None) -> int:
            self._unread.require_all(store, at, collection, where)
            return store.count(collection, where, epoch=at)

        found = self._router.call_reading(read_at)
        self._shadow_reads.sample_count(collection, where)
        return found

    @override
    def scan(
        self,
        collection: str,
        *,
        after: str | None = None,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Row]:
        require_no_epoch(epoch)
        # Rows are in key order, so a scan that a switch interrupts goes on at the new
        # primary after the last key that was yielded.
        while True:
            route = self._router.route
            try:
                if not deleted:
                    self._unread.require_all(
                        route.store, route.epoch, collection, And(())
                    )
                for row in route.store.scan(
                    collection, after=after, deleted=deleted, epoch=route.epoch
                ):
                    after = row.key
                    yield row
            except StaleEpoch:
                self._router.call(
                    lambda at: at.store.read(collection, (), epoch=at.epoch)
                )
            else:
                return

    @override
    def together(
        self,
        queries: Sequence[tuple[str, Query]] = (),
        counts: Sequence[tuple[str, Condition]] = (),
        *,
        epoch: int | None = None,
    ) -> tuple[list[list[Row]], list[int]]:
        require_no_epoch(epoch)

        def read_at(store: Store, at: int | None) -> tuple[list[list[Row]], list[int]]:
            rows, numbers = store.together(queries, counts, epoch=at)
            if not store.refuses_unread:
                for (name, query), found in zip(queries, rows, strict=True):
                    self._unread.require_all(store, at, name, query.where, len(found))
                for name, where in counts:
                    self._unread.require_all(store, at, name, where)
            return rows, numbers

        answer = self._router.call_reading(read_at)
        for name, query in queries:
            self._shadow_reads.sample_query(name, query)
        for name, where in counts:
            self._shadow_reads.sample_count(name, where)
        return answer

    @override
    def listing(self, layout: Layout, *, epoch: int | None = None) -> Listing | None:
        require_no_epoch(epoch)

        def read_at(store: Store, at: int | None) -> Listing | None:
            return store.listing(layout, epoch=at)

        return self._router.call_reading(read_at)

    @override
    def moment(self) -> object:
        route = self._router.known_route
        moment = None if route is None else route.store.moment()
        return None if moment is None or route is None else (route.epoch, moment)

    @override
    def unread_files(self) -> tuple[UnreadFile, ...]:
        """Return the unread files of the primary."""
        route = self._router.route
        if route.store.refuses_unread:
            return route.store.unread_files()
        return unread_in(route.store, {layout.file: layout for layout in self.layouts})


def require_no_epoch(epoch: int | None) -> None:
    """Refuse an epoch: a pair has no role, because it does not take part in another one.

    Raises:
        StaleEpoch: an epoch is given.
    """
    if epoch:
        raise StaleEpoch(store=PAIR_NAME, role=Role.PRIMARY.value, epoch=0)
