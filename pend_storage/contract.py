"""Contract of a storage backend.

A store holds *rows*: a record, its key and its version, by collection. The author of
a backend needs this file only: :class:`StoreBackend` has the abstract methods that a
backend must have, and those that it overrides where it can do them in fewer steps. What users call is
written once over the contract, in :class:`~pend_storage.store.Store`; a backend
subclasses that.

Epochs: a caller that takes part in a migration passes the epoch at which it believes
this store to be primary (or, for ``apply``, secondary). The store compares that with its
own role in the same instant and raises :class:`~pend_storage.errors.StaleEpoch` where it
differs. With ``epoch=None`` reads check no role; a commit then demands the role
primary and an ``apply`` the role secondary, at whatever epoch. A store that stands alone,
because no role was ever set, takes both.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from pend_storage._cursor import CursorKey
from pend_storage._layouts.layout import Layout
from pend_storage._layouts.listing import Listing
from pend_storage._model.records import (
    JSON,
    Advance,
    Batch,
    Change,
    ChangedRecord,
    Outcome,
    Pending,
    Row,
)
from pend_storage._recovery_backend import RecoveryBackend
from pend_storage._shown import shown
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.events import Event, Hook, guarded, log_event
from pend_storage.instrumentation._timing import Timing
from pend_storage.phases import IDENTITY_META, ROLE_META, RoleState
from pend_storage.query import Condition, Query
from pend_storage.schema import Schema

__all__ = ["StoreBackend", "timing_of"]

_MOST_COUNTED: Final = 100_000
"""Entries of a change log that :meth:`StoreBackend.pending` counts at most."""


class StoreBackend(RecoveryBackend, ABC):
    """Storage backend: the operations that a store implements itself.

    Safe to use from any number of threads.

    Required: the abstract methods. The methods behind them follow from these.
    """

    schema: Schema
    layouts: tuple[Layout, ...] = ()
    """The legacy files that this store can show; see :meth:`Store.legacy`."""
    refuses_unread: bool = False
    """True if this store itself refuses calls whose answer may lack an unread file."""
    cursor_key: CursorKey | None = None
    """Signs the cursors of pages, :attr:`Page.next`. Without one they are not signed."""
    _hook: Hook = guarded(log_event)
    _timing: Timing | None = None
    """Times the calls of users. Without instruments there is none, and no clock is read."""

    # -- required ---------------------------------------------------------------

    @abstractmethod
    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        """Read the rows under these keys at one instant; missing keys are absent.

        Args:
            collection: name of the collection.
            keys: no keys means none, not all.
            deleted: also return tombstones (rows without a record).
            epoch: at which the caller believes the store to have its role; None: any.

        Raises:
            StaleEpoch: the store is not primary at that epoch.
            StoreUnavailable: it cannot be reached.
        """

    @abstractmethod
    def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        """Return the rows that meet a checked query, sorted, at most ``query.limit``."""

    @abstractmethod
    def count(
        self, collection: str, where: Condition, *, epoch: int | None = None
    ) -> int:
        """Count the rows that meet a checked condition."""

    @abstractmethod
    def scan(
        self,
        collection: str,
        *,
        after: str | None = None,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Row]:
        """Iterate over the rows in key order, beginning after a key, in bounded memory.

        Rows written during the scan may or may not appear; a row that was there all the
        time appears exactly once.
        """

    @abstractmethod
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        """Write a batch atomically and durably, and enter it in the change log.

        Where ``batch.token`` names an entry of the change log, nothing is written: this
        is the same commit once more, and returns what it returned then, whatever role
        the store has by now. So a caller that lost the answer repeats the same batch.

        Else, checked in this order before anything is written: epoch,
        ``batch.checks``, uniqueness, references; the last two against the state after
        the batch. The sequence number of the entry lies above the end of the log, above
        what was pruned, and above every version in the store.

        Returns:
            For each operation its new version; 0 for a delete that found no record.

        Raises:
            StaleEpoch: not primary (at that epoch).
            Conflict: a check does not hold.
            UniqueViolation: another record has the same value.
            ReferenceViolation: a reference would lead nowhere.
            StoreUnavailable: it cannot be reached; where ``outcome_known`` is False, the
                commit may have been made.
        """

    @abstractmethod
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        """Write the changes of another store that are newer than what is here, atomically.

        Versions and tombstones are taken over as they are; nothing enters this store's
        change log; uniqueness and references are not judged (PostgreSQL defers them to
        the end of the call).

        Args:
            records: in commit order; a key may occur more than once.
            epoch: at which the caller believes the store to have its role; None: any.
            mark: a position that moves together with the data.

        Returns:
            How many rows were written; the others were not newer.

        Raises:
            StaleEpoch: not secondary (at that epoch).
            StalePosition: the position is not what ``mark`` continues.
        """

    @abstractmethod
    def changes(self, after: int = 0) -> Iterator[Change]:
        """Iterate over the change log after a sequence number, up to its present end.

        In an order in which no later read can find an earlier entry: a commit that is
        still open holds back the entries after it. A store that is not primary has
        no such commit, and returns its whole log.

        Raises:
            ChangesExpired: it is not kept so far back.
        """

    @abstractmethod
    def meta(self, name: str) -> JSON:
        """Return a named value beside the data (role, marks, cursors); None if never set."""

    @abstractmethod
    def compare_and_set_meta(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        *,
        given: Mapping[str, JSON] | None = None,
    ) -> bool:
        """Set a named value if it is what the caller expects; durable when it returns.

        Changing the role waits for commits and applies under way, and later ones see it.

        Args:
            name: name of the entry.
            expected: the value it must have (by value); None: never set.
            value: the new value; None removes the entry.
            given: other entries that must have these values at the same instant (None:
                never set). With the role, these can be positions: no ``apply`` moves
                them between the check and the change.

        Returns:
            Whether it was set; False where a value was another one.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish the calls under way, and release files and connections. Idempotent."""

    # -- provided: override it where there is a quicker way ------------------------

    def commit_each(
        self, batches: Sequence[Batch], *, epoch: int | None = None
    ) -> list[Outcome]:
        """Commit independent batches, and return the outcome of each.

        As if :meth:`commit` were called for one after the other, in this order: a batch
        that is refused does not affect the others, and each is an entry of its own in
        the change log. Commits of others may come between. A store that can do it in
        fewer steps overrides this.

        Args:
            batches: of many callers.
            epoch: at which the caller believes the store to have its role; None: any.

        Returns:
            For each batch its versions, or the error that :meth:`commit` would have
            raised.
        """
        outcomes: list[Outcome] = []
        for batch in batches:
            try:
                outcomes.append(self.commit(batch, epoch=epoch))
            except PendStorageError as error:
                outcomes.append(error)
        return outcomes

    def find_commit(self, token: str) -> Change | None:
        """Find the entry of the change log that a commit made; None where there is none.

        Call this where :class:`~pend_storage.errors.StoreUnavailable` says that the
        outcome of a commit is not known. While the commit may still be under way, None
        does not mean that it will not happen: repeat the same batch instead. Stores
        override this with something quicker than reading the whole change log.

        Raises:
            StoreUnavailable: it cannot be reached.
        """
        return next((c for c in self.changes() if c.token == token), None)

    def pending(self, after: int) -> Pending:
        """Count the change log's entries after a sequence number, and date the oldest.

        Stores override it with something that costs the same at any number.

        Raises:
            ChangesExpired: the log is not kept so far back.
        """
        entries = islice(self.changes(after), _MOST_COUNTED)
        first = next(entries, None)
        if first is None:
            return Pending(0, None)
        return Pending(1 + sum(1 for _ in entries), first.at)

    def head(self) -> int:
        """Return the end of the log: below every later commit, and below its versions.

        The latter is required of stores that may follow one another, or be followed.
        Stores override it with something quicker than reading the whole change log.
        """
        return max((change.sequence for change in self.changes()), default=0)

    def together(
        self,
        queries: Sequence[tuple[str, Query]] = (),
        counts: Sequence[tuple[str, Condition]] = (),
        *,
        epoch: int | None = None,
    ) -> tuple[list[list[Row]], list[int]]:
        """Answer several queries and counts, of collections by name.

        A store over a network overrides this with one round trip; all answers are of one instant then.
        The rows of a query come in any order.
        """
        rows = [self.query(name, query, epoch=epoch) for name, query in queries]
        return rows, [self.count(name, where, epoch=epoch) for name, where in counts]

    def listing(self, layout: Layout, *, epoch: int | None = None) -> Listing | None:  # noqa: ARG002
        """Return the records of a legacy file in order, if this store has them ready.

        None: read them. It is the same object as long as nothing of the file changes.
        """
        return None

    def own_log(self) -> StoreBackend:
        """Return the store whose change log has the commits of this one: itself.

        A pair returns its primary, whose sequence numbers are the versions of records.
        """
        return self

    def moment(self) -> object:
        """Return a token that changes with every commit made through this object.

        For views over a network, which reuse rows as long as the token stays. None: rows
        that were read cannot be reused.
        """
        return None

    def prune(self, upto: int) -> None:  # noqa: ARG002 - for those who forget
        """Allow the store to forget the entries of its change log up to this one.

        Reading them raises ``ChangesExpired`` then. A store may keep them longer; one
        that has a retention of its own need not override this.
        """
        return

    def hold_log(self, passed: Callable[[], int | None]) -> None:  # noqa: ARG002 - for those who forget
        """Hold the entries of the change log that a follower has not applied.

        A store that drops entries by age asks before it does. One that drops them only
        in :meth:`prune` need not override this.

        Args:
            passed: returns the sequence number up to which all followers have applied
                the log; None where no store follows. It may ask another store.
        """
        return

    def purge(
        self,
        collection: str,
        keys: Iterable[str],  # noqa: ARG002 - for those who override it
        *,
        tombstones: bool = True,  # noqa: ARG002
    ) -> bool:
        """Erase what a store keeps of deleted records: log entries, and tombstones.

        Entries of the change log lose these records, or are dropped together with all
        entries before them; reading those raises ``ChangesExpired``. Later versions of
        such a key are above all earlier ones, also without its tombstone.

        Without a tombstone, nothing keeps an old put of the key from being applied. So
        everything that follows this store, or is followed by it, must have applied the
        deletion before.

        Args:
            collection: name of the collection.
            keys: of deleted records.
            tombstones: False: the tombstones stay.

        Returns:
            True where nothing is left. False where the store still needs entries: a
            follower has not applied them, or a legacy file cannot be written now. Then
            call it again later.

        Raises:
            Conflict: a record is there.
            ConfigError: the user lacks a privilege, or the store cannot purge.
            StoreUnavailable: it cannot be reached.
        """
        raise ConfigError(
            f"{type(self).__name__} cannot purge records of {shown(collection)}: its change "
            "log cannot be changed. Use a store that can."
        )

    # -- identity and role ----------------------------------------------------------

    def identity(self) -> str:
        """Return the permanent identity of this store; it is made at the first call."""
        known = self.meta(IDENTITY_META)
        if known is None:
            self.compare_and_set_meta(IDENTITY_META, None, uuid.uuid4().hex)
            known = self.meta(IDENTITY_META)
        return str(known)

    def incarnation(self) -> str:
        """Return the incarnation: the server, and the copy of the data, behind this store.

        It changes when the server fails over, when data is restored or moved, or when a
        directory is exchanged; :meth:`identity` survives these. A fact about a store,
        such as a position in its log, holds for one incarnation only.

        Raises:
            StoreUnavailable: it cannot be reached.
        """
        return self.identity()

    def role(self) -> RoleState:
        """Read the role of this store, and its epoch."""
        return RoleState.from_meta(self.meta(ROLE_META))

    def tell(self, event: Event) -> None:
        """Emit an event to the hook of this store."""
        self._hook(event)


def timing_of(store: StoreBackend) -> Timing | None:
    """Return the timing of a store; None: it has no instruments."""
    return store._timing  # noqa: SLF001 - same module
