"""Writes of a pair: to the primary first, then to the secondary; and its metadata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from typing_extensions import override

from pend_storage._model.attribution import token_moment
from pend_storage._model.records import (
    JSON,
    Advance,
    Batch,
    Change,
    ChangedRecord,
    Outcome,
    Put,
)
from pend_storage.contract import StoreBackend
from pend_storage.crashpoints import declare
from pend_storage.dualwrite._batch_limit import Load
from pend_storage.dualwrite._change_feed import (
    as_feed_entry,
    change_feed,
    feed_sequence,
)
from pend_storage.dualwrite._circuit_breaker import OUT_OF_REACH
from pend_storage.dualwrite._log_continuity import LogContinuity
from pend_storage.dualwrite._pair_metadata import PairMetadata
from pend_storage.dualwrite._pending_commit import (
    PendingCommit,
    Written,
    raise_unsettled,
)
from pend_storage.dualwrite._relay_schedule import RelaySchedule
from pend_storage.dualwrite._replicator import SynchronousReplicator
from pend_storage.dualwrite._roles import other
from pend_storage.dualwrite._route import Route, require_primary
from pend_storage.dualwrite._routed_reads import PAIR_NAME, require_no_epoch
from pend_storage.dualwrite._routed_recovery import RoutedRecovery
from pend_storage.errors import (
    ConfigError,
    CorruptFile,
    PendStorageError,
    StaleEpoch,
    StoreUnavailable,
)
from pend_storage.phases import ROLE_META, Role

__all__ = ["RoutedStore"]

_COMMITTED: Final = declare(
    "write.committed", "the primary has committed, the secondary knows nothing"
)
_FOLLOWED: Final = declare(
    "write.followed", "both stores have it, the caller knows nothing"
)
_MOMENT: Final = len(token_moment())


class RoutedStore(RoutedRecovery):
    """Verbs of the contract, routed to the primary of a pair.

    Seen from outside a pair is one store that stands alone: it has no role, and it cannot
    follow another one. The parts are made by
    :class:`~pend_storage.dualwrite.DualWriteStore`.
    """

    _continuity: LogContinuity
    _schedule: RelaySchedule
    _replicator: SynchronousReplicator
    _metadata: PairMetadata
    _timeout: float | None

    # -- writes: the primary first, then the secondary ------------------------------------

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        require_no_epoch(epoch)

        def commit_at(route: Route) -> tuple[Route | None, tuple[int, ...]]:
            done = self._done_before(route, batch)
            if done is not None:
                return None, done
            self._unread.require_commit(route.store, route.epoch, batch)
            before = self._continuity.check_before_commit(route)
            versions = route.store.commit(batch, epoch=route.epoch)
            self._continuity.record_commit(route, before, batch.token, versions)
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
            before = self._continuity.check_before_commit(route)
            answers = route.store.commit_each(
                [pending.batch for pending in waiting], epoch=route.epoch
            )
            for pending, answer in zip(waiting, answers, strict=True):
                pending.resolve(answer)
                if isinstance(answer, tuple):
                    token = pending.batch.token
                    self._continuity.record_commit(route, before, token, answer)
            written = [pending.written for pending in waiting if pending.is_written]
            if written:
                _COMMITTED()
                self._replicate(route, written)
                _FOLLOWED()
            raise_unsettled(waiting)

        try:
            require_no_epoch(epoch)
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
        """Return the versions of a commit that the other store made when it was primary."""
        # Only a batch that is older than the route can be one that is repeated over a
        # switch. Where the other store cannot be asked, it is taken for a new one.
        if not batch.token or batch.token[:_MOMENT] > route.since:
            return None
        try:
            found = self._pair.store(other(route.side)).find_commit(batch.token)
        except OUT_OF_REACH:
            return None
        return None if found is None else found.versions_of(batch)

    def _doubt(self, error: StoreUnavailable) -> None:
        if not error.outcome_known:
            self._schedule.notify()  # if it did happen, it is in the change log

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
        """Refuse: a pair has no primary to follow.

        Raises:
            StaleEpoch: always.
        """
        _ = self._router.route  # closed?
        raise StaleEpoch(store=PAIR_NAME, role=Role.PRIMARY.value, epoch=0)

    # -- beside the data ------------------------------------------------------------------

    @override
    def changes(self, after: int = 0) -> Iterator[Change]:
        """Yield the pair's change feed, which goes on through every switch."""
        route = self._router.route
        while True:
            for change in change_feed(self._pair, route, after):
                after = change.sequence
                yield change
            now = self._router.current()
            if (now.side, now.epoch) == (route.side, route.epoch):
                return
            route = now  # there was a switch that this process had not noticed

    @override
    def find_commit(self, token: str) -> Change | None:
        """Return the entry of either store's log, numbered as in :meth:`changes`."""
        route = self._router.route
        found = route.store.find_commit(token)
        if found is not None:
            return as_feed_entry(found, route.side)
        side = other(route.side)
        found = self._pair.store(side).find_commit(token)
        return None if found is None else as_feed_entry(found, side)

    @override
    def head(self) -> int:
        """Return a sequence of the feed, below that of every later commit.

        Versions are counted by the stores themselves, and cannot be compared with it.
        """

        def read(route: Route) -> int:
            head = route.store.head()
            require_primary(route.store, route.epoch)  # else others are ahead by now
            return feed_sequence(route, head)

        return self._router.call(read)

    @override
    def meta(self, name: str) -> JSON:
        """Return a named value of the pair, which stays when the primary changes."""
        return self._metadata.get(name)

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
        self._continuity.check_before_commit(self._router.route)
        return self._metadata.compare_and_set(name, expected, value, given)

    @override
    def own_log(self) -> StoreBackend:
        """Return the primary, whose log has the commits of the pair."""
        return self._router.current().store

    @override
    def prune(self, upto: int) -> None:
        """Do nothing: the relay prunes both change logs, after their retention."""


def _load(batch: Batch, versions: Sequence[int]) -> Load:
    """Return the changed records of a commit, with the sizes of their encoded bodies."""
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
