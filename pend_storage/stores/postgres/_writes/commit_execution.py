"""Commit execution: calls that commit, their answers, and lost answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from psycopg.pq.abc import PGresult

from pend_storage._model.records import Batch, Change, Outcome, Put
from pend_storage.errors import (
    ConfigError,
    Conflict,
    PendStorageError,
    SchemaOutOfDate,
    StoreUnavailable,
)
from pend_storage.instrumentation._timing import Count
from pend_storage.store import Store
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._connection.connection import Statement
from pend_storage.stores.postgres._connection.server_errors import (
    ConnectionLost,
    ServerRefusal,
    raise_stale,
)
from pend_storage.stores.postgres._connection.wire_format import (
    Value,
    flag,
    is_token,
    number,
    optional,
    token_value,
)
from pend_storage.stores.postgres._functions.definitions import MANY_KEYS
from pend_storage.stores.postgres._queries import statements
from pend_storage.stores.postgres._queries.rows import change_of
from pend_storage.stores.postgres._queries.statements import CollectionStatements
from pend_storage.stores.postgres._schema.tables import TOKEN_CONSTRAINT
from pend_storage.stores.postgres._writes.commit_call import CommitCall
from pend_storage.stores.postgres._writes.commit_retry import (
    CommitRetry,
    SharedLockTimeout,
)
from pend_storage.stores.postgres._writes.storable_batch import StorableBatch
from pend_storage.stores.postgres._writes.violations import raise_violation

__all__ = ["AlreadyCommitted", "CommitExecutor"]

_NO_ANSWER: Final = (StoreUnavailable, SchemaOutOfDate, ConfigError)
"""Errors raised before a call is sent."""


class AlreadyCommitted(Exception):
    """Batches are in the change log already; nothing was written."""

    def __init__(self, places: tuple[int, ...]) -> None:
        self.places = places
        super().__init__()


class _NotWritten(Exception):
    """Nothing was written: the call has to be repeated.

    Either the offset was raised above the log's end, or a role without grants holds a
    lock that the call needs.
    """

    def __init__(self, *, alone: bool = False) -> None:
        self.alone = alone
        """Whether it is repeated with the store lock held exclusively."""
        super().__init__()


class CommitExecutor:
    """Executes the commit calls of one store."""

    def __init__(
        self,
        store: Store,
        client: DatabaseClient,
        known: Mapping[str, CollectionStatements],
        retry_timeout: float,
        count: Count | None,
    ) -> None:
        """Configure the executor; the arguments are those of a committer."""
        self._store = store
        self._client = client
        self._known = known
        self._retry_timeout = retry_timeout
        self._count = count

    def commit(
        self, storable: StorableBatch, epoch: int | None, lock_timeout: Value = None
    ) -> tuple[int, ...]:
        """Commit a batch; :meth:`_retry` handles what does not succeed at once.

        Args:
            storable: the batch.
            epoch: at which the store must be primary; None: not checked.
            lock_timeout: where other commits wait for this one; None: default.

        Raises:
            SharedLockTimeout: a lock is held beyond ``lock_timeout``.
        """
        try:
            versions = self._attempt(storable.batch, epoch, lock_timeout, again=False)
            self._written(1)
            return self.confirmed_versions(storable, versions)
        except (ConnectionLost, ServerRefusal, AlreadyCommitted, _NotWritten) as error:
            return self._retry(storable, epoch, lock_timeout, error)

    def _written(self, commits: int) -> None:
        if self._count is not None:
            self._count("merged_commits", commits)

    def confirmed_versions(
        self, storable: StorableBatch, versions: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Versions of a commit that succeeded.

        One that wrote nothing made no entry, so the unique index on the token could not
        show that it is in the log: the deletes of a retried batch find nothing any
        more.
        """
        # Versions of 0 are deletes that found no record: either there was none, or the first
        # attempt has deleted it. Only the token tells the two apart.
        wrote = any(versions) or not versions
        if wrote or self.find(storable.batch.token) is None:
            return storable.caller_versions(versions)
        return self.logged_versions(storable)

    def _retry(
        self,
        storable: StorableBatch,
        epoch: int | None,
        lock_timeout: Value,
        first: Exception,
    ) -> tuple[int, ...]:
        """Retry a commit after its first error.

        A deadlock, or a rule that was violated a moment ago and is not any more, is
        retried: nothing was written. So is a call without an answer, under its token.
        """
        batch = storable.batch
        retry = CommitRetry(
            self._client,
            [batch],
            seconds=self._retry_timeout,
            has_waiters=lock_timeout is not None,
            is_exclusive=_size(batch) > MANY_KEYS,
        )
        error: Exception | None = first
        while True:
            try:
                if error is None:
                    return self.confirmed_versions(
                        storable,
                        self._attempt(
                            batch,
                            epoch,
                            lock_timeout,
                            again=retry.is_unknown,
                            alone=retry.is_exclusive,
                        ),
                    )
                failed, error = error, None
                raise failed  # the first error is handled by the same clauses as later ones
            except AlreadyCommitted:
                return self.logged_versions(storable)
            except _NotWritten as answer:
                retry.is_exclusive |= answer.alone
                retry.again()
            except ConnectionLost as lost:
                retry.lost(lost)
            except _NO_ANSWER as no_answer:
                retry.unavailable(no_answer)
            except ServerRefusal as refusal:
                if not refusal.is_violation:
                    retry.refused(refusal, _collection(batch))
                elif (done := self._explain_violation(refusal, storable)) is not None:
                    return done
                else:
                    retry.again(refusal)

    def _explain_violation(
        self, refusal: ServerRefusal, storable: StorableBatch
    ) -> tuple[int, ...] | None:
        """Raise the violated rule; None where the commit may be retried.

        Returns:
            The versions, if an earlier attempt was committed.
        """
        # First the token: an attempt whose answer was lost may have written the very record
        # that this attempt conflicts with.
        if self.find(storable.batch.token) is not None:
            return self.logged_versions(storable)
        if refusal.constraint != TOKEN_CONSTRAINT:
            raise_violation(self._store, storable.batch.operations)
        return None

    def logged_versions(self, storable: StorableBatch) -> tuple[int, ...]:
        """Versions of a commit that is in the change log.

        Raises:
            StoreUnavailable: the log cannot be read, or was pruned meanwhile.
        """
        batch, reason = storable.batch, "its entry was pruned from the change log"
        try:
            done = self.find(batch.token)
        except StoreUnavailable as error:
            done, reason = None, error.reason
        if done is None:
            raise StoreUnavailable(
                f"the commit was made before, but {reason}",
                store=self._client.name,
                outcome_known=False,
                token=batch.token,
            )
        return storable.caller_versions(done.versions_of(batch))

    def _attempt(
        self,
        batch: Batch,
        epoch: int | None,
        lock_timeout: Value,
        *,
        again: bool,
        alone: bool = False,
    ) -> tuple[int, ...]:
        # One put, checked at most at its own key, is what most commits are: it has a
        # function of its own, which takes fewer steps than the one for batches.
        operations, checks = batch.operations, batch.checks
        if len(operations) == 1 and isinstance(put := operations[0], Put):
            expected = checks.get((put.collection, put.key))
            if len(checks) == (expected is not None):
                tail = (flag(again), lock_timeout, flag(alone))
                return self._call_put(put, expected, epoch, batch, tail)
        call = CommitCall([batch])
        values = call.values(epoch, lock_timeout, again=again, alone=alone)
        (outcome,) = call.outcomes(self._call(statements.COMMIT, values))
        if isinstance(outcome, PendStorageError):
            raise outcome
        return outcome

    def _call_put(
        self,
        put: Put,
        expected: int | None,
        epoch: int | None,
        batch: Batch,
        tail: tuple[Value, Value, Value],
    ) -> tuple[int]:
        values = (
            number(epoch),
            put.key.encode(),
            put.body,
            number(expected),
            token_value(batch.token),
            optional(batch.by),
            optional(batch.reason),
            *tail,
        )
        answer = self._call(self._known[put.collection].put, values)
        if answer.startswith("conflict "):
            raise Conflict(
                collection=put.collection,
                key=put.key,
                expected=expected or 0,
                actual=int(answer.split()[2]),
            )
        return (int(answer),)

    def _call(self, statement: Statement, values: Sequence[Value]) -> str:
        """Call a function, and return its answer about the records.

        Raises:
            StaleEpoch: the store is not primary at the epoch.
            AlreadyCommitted: the token is in the change log.
            _NotWritten: it must be repeated.
        """
        answer = _text(self._client.execute_once(statement, values))
        if answer == "renumber":
            renumber = statements.RENUMBER  # the database has moved to another server
            self._client.execute_write(
                lambda connection: connection.execute(renumber), idempotent=True
            )
            raise _NotWritten
        if answer == "alone":
            raise _NotWritten(alone=True)
        if answer.startswith("done"):
            raise AlreadyCommitted(tuple(map(int, answer.split()[1:])))
        raise_stale(answer, self._client.name)
        return answer

    def find(self, token: str) -> Change | None:
        """Find the change log entry of a token; None if there is none."""
        if not is_token(token):
            return None
        result = self._client.fetch(statements.FIND, (token.encode(),))
        return change_of(self._store.schema, result, 0) if result.ntuples else None

    def commit_group(
        self,
        batches: Sequence[Batch],
        targets: Sequence[tuple[str, str]],
        epoch: int | None,
        lock_timeout: Value,
    ) -> list[Outcome] | None:
        """Commit independent batches in one call; None where they must be split.

        Args:
            batches: a group of
                :mod:`~pend_storage.stores.postgres._writes.commit_batches`.
            targets: keys of the records they refer to.
            epoch: at which the store must be primary; None: not checked.
            lock_timeout: of the call.

        Raises:
            AlreadyCommitted: some of them are in the change log.
        """
        call = CommitCall(batches, targets)
        retry = CommitRetry(
            self._client, batches, seconds=self._retry_timeout, has_waiters=True
        )
        while True:
            values = call.values(
                epoch, lock_timeout, again=retry.is_unknown, alone=retry.is_exclusive
            )
            try:
                outcomes = call.outcomes(self._call(statements.COMMIT, values))
            except _NotWritten as answer:
                retry.is_exclusive |= answer.alone
                retry.again()
            except ConnectionLost as lost:
                retry.lost(lost)
            except _NO_ANSWER as error:
                retry.unavailable(error)
            except ServerRefusal as refusal:
                # The whole call was rolled back. A part of the group may succeed, so the
                # caller halves it until the batch at fault is alone with its own error.
                if refusal.is_splittable:
                    return None
                try:
                    retry.refused(refusal)
                except SharedLockTimeout:
                    return None
            else:
                done = sum(isinstance(outcome, tuple) for outcome in outcomes)
                self._written(done)
                return outcomes


def _size(batch: Batch) -> int:
    return len(batch.operations) + len(batch.checks)


def _collection(batch: Batch) -> str:
    """Collection that a batch writes, if it is only one."""
    names = {operation.collection for operation in batch.operations}
    return names.pop() if len(names) == 1 else ""


def _text(result: PGresult) -> str:
    return (result.get_value(0, 0) or b"").decode()
