"""Reads and writes of a pair of stores, wherever its primary is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from typing_extensions import override

from pend_storage.attribution import token_moment
from pend_storage.crashpoints import declare
from pend_storage.dualwrite.batch_limit import Load
from pend_storage.dualwrite.circuit_breaker import OUT_OF_REACH
from pend_storage.dualwrite.continuity import Continuity
from pend_storage.dualwrite.feed import feed, feed_number, in_feed
from pend_storage.dualwrite.pair import Pair
from pend_storage.dualwrite.pending_commit import (
    PendingCommit,
    Written,
    raise_unsettled,
)
from pend_storage.dualwrite.relay import Relay
from pend_storage.dualwrite.replicator import SynchronousReplicator
from pend_storage.dualwrite.roles import other
from pend_storage.dualwrite.routing import Route, Router, require_primary
from pend_storage.dualwrite.sampling import Sampler
from pend_storage.dualwrite.shared import SharedMeta
from pend_storage.dualwrite.unread import UnreadGuard
from pend_storage.errors import (
    ConfigError,
    CorruptFile,
    PendStorageError,
    StaleEpoch,
    StoreUnavailable,
)
from pend_storage.layout import Layout
from pend_storage.listing import Listing
from pend_storage.phases import ROLE_META, Role
from pend_storage.query import And, Condition, Query
from pend_storage.records import (
    JSON,
    Advance,
    Batch,
    Change,
    ChangedRecord,
    Outcome,
    Put,
    Row,
)
from pend_storage.store import Store, unread_in
from pend_storage.unread import UnreadFile

__all__ = ["Traffic"]

_COMMITTED: Final = declare(
    "write.committed", "the primary has committed, the secondary knows nothing"
)
_FOLLOWED: Final = declare(
    "write.followed", "both stores have it, the caller knows nothing"
)
_NAME: Final = "the pair of stores"
_MOMENT: Final = len(token_moment())


class Traffic(Store):
    """The verbs of the contract. How the parts are made is told by a subclass.

    Seen from outside a pair is one store that stands alone: it has no role, and it cannot
    follow another one.
    """

    _pair: Pair
    _router: Router
    _continuity: Continuity
    _relay: Relay
    _replicator: SynchronousReplicator
    _shared: SharedMeta
    _sampler: Sampler
    _unread: UnreadGuard
    _timeout: float | None

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
        _require_alone(epoch)
        wanted = list(keys)

        def look(store: Store, at: int | None) -> dict[str, Row]:
            rows = store.read(collection, wanted, deleted=deleted, epoch=at)
            if not deleted and not store.refuses_unread:
                self._unread.require_rows(store, at, collection, wanted, rows)
            return rows

        rows = self._router.call_reading(look)
        self._sampler.note_keys(collection, wanted)
        return rows

    @override
    def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        _require_alone(epoch)

        def look(store: Store, at: int | None) -> list[Row]:
            rows = store.query(collection, query, epoch=at)
            if not store.refuses_unread:
                found = len(rows)
                self._unread.require_all(store, at, collection, query.where, found)
            return rows

        rows = self._router.call_reading(look)
        self._sampler.note_query(collection, query)
        return rows

    @override
    def count(
        self, collection: str, where: Condition, *, epoch: int | None = None
    ) -> int:
        _require_alone(epoch)

        def look(store: Store, at: int | None) -> int:
            self._unread.require_all(store, at, collection, where)
            return store.count(collection, where, epoch=at)

        found = self._router.call_reading(look)
        self._sampler.note_count(collection, where)
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
        _require_alone(epoch)
        while True:  # a scan that a switch interrupts goes on at the new primary
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
        _require_alone(epoch)

        def look(store: Store, at: int | None) -> tuple[list[list[Row]], list[int]]:
            rows, numbers = store.together(queries, counts, epoch=at)
            if not store.refuses_unread:
                for (name, query), found in zip(queries, rows, strict=True):
                    self._unread.require_all(store, at, name, query.where, len(found))
                for name, where in counts:
                    self._unread.require_all(store, at, name, where)
            return rows, numbers

        answer = self._router.call_reading(look)
        for name, query in queries:
            self._sampler.note_query(name, query)
        for name, where in counts:
            self._sampler.note_count(name, where)
        return answer

    @override
    def listing(self, layout: Layout, *, epoch: int | None = None) -> Listing | None:
        _require_alone(epoch)

        def look(store: Store, at: int | None) -> Listing | None:
            return store.listing(layout, epoch=at)

        return self._router.call_reading(look)

    @override
    def moment(self) -> object:
        route = self._router.believed
        moment = None if route is None else route.store.moment()
        return None if moment is None or route is None else (route.epoch, moment)

    # -- writes: the primary first, then the secondary ------------------------------------

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        _require_alone(epoch)

        def commit_at(route: Route) -> tuple[Route | None, tuple[int, ...]]:
            done = self._done_before(route, batch)
            if done is not None:
                return None, done
            self._unread.require_commit(route.store, route.epoch, batch)
            before = self._continuity.before(route)
            versions = route.store.commit(batch, epoch=route.epoch)
            self._continuity.after(route, before, batch.token, versions)
            return route, versions

        try:
            route, versions = self._router.call(commit_at)
        except StoreUnavailable as error:
            self._doubt(error)
            raise
        if route is None:
            return versions
        _COMMITTED()
        self._replicate(route, [(batch, versions)])
        _FOLLOWED()
        return versions

    @override
    def commit_each(
        self, batches: Sequence[Batch], *, epoch: int | None = None
    ) -> list[Outcome]:
        commits = [PendingCommit(batch) for batch in batches]

        def commit_at(route: Route) -> None:
            waiting = [
                pending
                for pending in commits
                if not pending.is_settled
                and not self._was_done(route, pending)
                and not self._was_refused(route, pending)
            ]
            if not waiting:
                return
            before = self._continuity.before(route)
            answers = route.store.commit_each(
                [pending.batch for pending in waiting], epoch=route.epoch
            )
            for pending, answer in zip(waiting, answers, strict=True):
                pending.resolve(answer)
                if isinstance(answer, tuple):
                    token = pending.batch.token
                    self._continuity.after(route, before, token, answer)
            written = [pending.written for pending in waiting if pending.is_written]
            if written:
                _COMMITTED()
                self._replicate(route, written)
                _FOLLOWED()
            raise_unsettled(waiting)

        try:
            _require_alone(epoch)
            self._router.call(commit_at)
        except PendStorageError as error:
            for pending in commits:
                pending.fail(error)
        outcomes = [pending.outcome for pending in commits]
        for outcome in outcomes:
            if isinstance(outcome, StoreUnavailable):
                self._doubt(outcome)
        return outcomes

    def _was_done(self, route: Route, pending: PendingCommit) -> bool:
        done = self._done_before(route, pending.batch)
        if done is not None:
            pending.resolve(done)
        return done is not None

    def _was_refused(self, route: Route, pending: PendingCommit) -> bool:
        try:
            self._unread.require_commit(route.store, route.epoch, pending.batch)
        except CorruptFile as error:
            pending.resolve(error)
        return pending.is_settled

    def _done_before(self, route: Route, batch: Batch) -> tuple[int, ...] | None:
        """What a commit gave that the other store has made, when it was primary.

        Only a batch that is older than the route can be one that is repeated over a
        switch. Where the other store cannot be asked, it is taken for a new one.
        """
        if not batch.token or batch.token[:_MOMENT] > route.since:
            return None
        try:
            found = self._pair.store(other(route.side)).find_commit(batch.token)
        except OUT_OF_REACH:
            return None
        return None if found is None else found.versions_of(batch)

    def _doubt(self, error: StoreUnavailable) -> None:
        if not error.outcome_known:
            self._relay.missed()  # if it did happen, it is in the change log

    def _replicate(self, route: Route, written: Iterable[Written]) -> None:
        if route.follower is None:
            return
        loads = [_load(*each) for each in written]
        commits = [load for load in loads if load.records]
        if commits:
            self._replicator.replicate(route, commits, self._timeout)

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        """Refused: a pair follows nobody.

        Raises:
            StaleEpoch: always.
        """
        _ = self._router.route  # closed?
        raise StaleEpoch(store=_NAME, role=Role.PRIMARY.value, epoch=0)

    # -- beside the data ------------------------------------------------------------------

    @override
    def changes(self, after: int = 0) -> Iterator[Change]:
        """The pair's change feed: it goes on through every switch."""
        route = self._router.route
        while True:
            for change in feed(self._pair, route, after):
                after = change.sequence
                yield change
            now = self._router.current()
            if (now.side, now.epoch) == (route.side, route.epoch):
                return
            route = now  # there was a switch that this process had not noticed

    @override
    def find_commit(self, token: str) -> Change | None:
        """The entry of either store's log; numbered as in :meth:`changes`."""
        route = self._router.route
        found = route.store.find_commit(token)
        if found is not None:
            return in_feed(found, route.side)
        side = other(route.side)
        found = self._pair.store(side).find_commit(token)
        return None if found is None else in_feed(found, side)

    @override
    def head(self) -> int:
        """A number of the feed, below that of every later commit.

        Versions are counted by the stores themselves, and cannot be compared with it.
        """

        def look(route: Route) -> int:
            head = route.store.head()
            require_primary(route.store, route.epoch)  # else others are ahead by now
            return feed_number(route, head)

        return self._router.call(look)

    @override
    def meta(self, name: str) -> JSON:
        """A named value of the pair; it stays when the primary changes."""
        return self._shared.get(name)

    @override
    def compare_and_set_meta(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        *,
        given: Mapping[str, JSON] | None = None,
    ) -> bool:
        if name == ROLE_META:
            raise ConfigError("the roles of a pair are changed with switch().")
        self._continuity.before(self._router.route)
        return self._shared.compare_and_set(name, expected, value, given)

    @override
    def unread_files(self) -> tuple[UnreadFile, ...]:
        """Of the primary."""
        route = self._router.route
        if route.store.refuses_unread:
            return route.store.unread_files()
        return unread_in(route.store, {layout.file: layout for layout in self.layouts})

    @override
    def prune(self, upto: int) -> None:
        """Nothing: the relay prunes both change logs, after their retention."""


def _require_alone(epoch: int | None) -> None:
    if epoch:
        raise StaleEpoch(store=_NAME, role=Role.PRIMARY.value, epoch=0)


def _load(batch: Batch, versions: Sequence[int]) -> Load:
    """What a commit has changed."""
    written = [
        (operation, version)
        for operation, version in zip(batch.operations, versions, strict=True)
        if version
    ]
    records = [
        ChangedRecord(o.collection, o.key, v, o.record if isinstance(o, Put) else None)
        for o, v in written
    ]
    return Load.of(records, (len(o.body) for o, _ in written if isinstance(o, Put)))
