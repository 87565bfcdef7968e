"""The calls that commit: their parameters, their answers, and what is done without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from psycopg.pq.abc import PGresult

from pend_storage._records import Batch, Change, Outcome, Put
from pend_storage.errors import (
    ConfigError,
    Conflict,
    PendStorageError,
    SchemaOutOfDate,
    StoreUnavailable,
)
from pend_storage.store import Store
from pend_storage.stores.postgres import statements
from pend_storage.stores.postgres.calls import CommitCall
from pend_storage.stores.postgres.errors import (
    ConnectionLost,
    ServerRefusal,
    raise_stale,
)
from pend_storage.stores.postgres.functions import MANY_KEYS
from pend_storage.stores.postgres.link import Statement
from pend_storage.stores.postgres.possible import Possible
from pend_storage.stores.postgres.repeating import HeldUp, Repeats
from pend_storage.stores.postgres.rows import change_of
from pend_storage.stores.postgres.server import Server
from pend_storage.stores.postgres.statements import CollectionStatements
from pend_storage.stores.postgres.tables import TOKEN_CONSTRAINT
from pend_storage.stores.postgres.violations import raise_violation
from pend_storage.stores.postgres.wire import (
    Value,
    flag,
    is_token,
    number,
    optional,
    token_value,
)

__all__ = ["Done", "Execution"]

_NO_ANSWER: Final = (StoreUnavailable, SchemaOutOfDate, ConfigError)
"""What a call meets before it is made."""


class Done(Exception):
    """Commits are in the change log already; nothing was written."""

    def __init__(self, places: tuple[int, ...]) -> None:
        self.places = places
        super().__init__()


class _Renumbered(Exception):
    """Numbers had to be raised above those in the log; nothing was written."""


class Execution:
    """Makes the calls of one store's commits."""

    def __init__(
        self,
        store: Store,
        server: Server,
        known: Mapping[str, CollectionStatements],
        patience: float,
    ) -> None:
        """Make one; the arguments are those of a committer."""
        self._store = store
        self._server = server
        self._known = known
        self._patience = patience

    def commit(
        self, possible: Possible, epoch: int | None, haste: Value = None
    ) -> tuple[int, ...]:
        """Commit it; see :meth:`_repeat` for where it does not go through at once.

        Raises:
            HeldUp: it is in haste, and somebody holds what it needs.
        """
        try:
            return self.made(
                possible, self._once(possible.batch, epoch, haste, again=False)
            )
        except (ConnectionLost, ServerRefusal, Done, _Renumbered) as error:
            return self._repeat(possible, epoch, haste, error)

    def made(self, possible: Possible, versions: tuple[int, ...]) -> tuple[int, ...]:
        """The versions of a commit that went through.

        One that wrote nothing made no entry, so the unique index on the token could not
        say that it is in the log: the deletes of a repeated batch find nothing any more.
        """
        wrote = any(versions) or not versions
        if wrote or self.find(possible.batch.token) is None:
            return possible.versions(versions)
        return self.given(possible)

    def _repeat(
        self, possible: Possible, epoch: int | None, haste: Value, first: Exception
    ) -> tuple[int, ...]:
        """Commit it again and again.

        A deadlock, or a rule that was broken a moment ago and is not any more, is tried
        again: nothing was written. So is a call without an answer, under its token.
        """
        batch = possible.batch
        repeats = Repeats(
            self._server,
            [batch],
            seconds=self._patience,
            is_hasty=haste is not None,
            is_alone=_size(batch) > MANY_KEYS,
        )
        error: Exception | None = first
        while True:
            try:
                if error is None:
                    return self.made(
                        possible,
                        self._once(batch, epoch, haste, again=repeats.is_unknown),
                    )
                failed, error = error, None
                raise failed
            except Done:
                return self.given(possible)
            except _Renumbered:
                repeats.again()
            except ConnectionLost as lost:
                repeats.lost(lost)
            except _NO_ANSWER as no_answer:
                repeats.unavailable(no_answer)
            except ServerRefusal as refusal:
                if not refusal.is_violation:
                    repeats.refused(refusal, _collection(batch))
                elif (done := self._judge(refusal, possible)) is not None:
                    return done
                else:
                    repeats.again(refusal)

    def _judge(
        self, refusal: ServerRefusal, possible: Possible
    ) -> tuple[int, ...] | None:
        """What it gave where it was done before; None where it may be tried again."""
        if self.find(possible.batch.token) is not None:
            return self.given(possible)
        if refusal.constraint != TOKEN_CONSTRAINT:
            raise_violation(self._store, possible.batch.operations)
        return None

    def given(self, possible: Possible) -> tuple[int, ...]:
        """What a commit gave that is in the change log.

        Raises:
            StoreUnavailable: the log cannot be asked, or was pruned in between.
        """
        batch, reason = possible.batch, "its entry was pruned from the change log"
        try:
            done = self.find(batch.token)
        except StoreUnavailable as error:
            done, reason = None, error.reason
        if done is None:
            raise StoreUnavailable(
                f"the commit was made before, but {reason}",
                store=self._server.name,
                outcome_known=False,
                token=batch.token,
            )
        return possible.versions(done.versions_of(batch))

    def _once(
        self, batch: Batch, epoch: int | None, haste: Value, *, again: bool
    ) -> tuple[int, ...]:
        operations, checks = batch.operations, batch.checks
        if len(operations) == 1 and isinstance(put := operations[0], Put):
            expected = checks.get((put.collection, put.key))
            if len(checks) == (expected is not None):
                tail = (flag(again), haste)
                return self._put(put, expected, epoch, batch, tail)
        call = CommitCall([batch])
        values = call.values(epoch, haste, again=again)
        (outcome,) = call.outcomes(self._answer(statements.COMMIT, values))
        if isinstance(outcome, PendStorageError):
            raise outcome
        return outcome

    def _put(
        self,
        put: Put,
        expected: int | None,
        epoch: int | None,
        batch: Batch,
        tail: tuple[Value, Value],
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
        answer = self._answer(self._known[put.collection].put, values)
        if answer.startswith("conflict "):
            raise Conflict(
                collection=put.collection,
                key=put.key,
                expected=expected or 0,
                actual=int(answer.split()[2]),
            )
        return (int(answer),)

    def _answer(self, statement: Statement, values: Sequence[Value]) -> str:
        """What a function answers, where that is about the records.

        Raises:
            StaleEpoch: the store is not primary at the epoch.
        """
        answer = _text(self._server.run(statement, values))
        if answer == "renumber":
            renumber = statements.RENUMBER
            self._server.write(lambda link: link.run(renumber), harmless=True)
            raise _Renumbered
        if answer.startswith("done"):
            raise Done(tuple(map(int, answer.split()[1:])))
        raise_stale(answer, self._server.name)
        return answer

    def find(self, token: str) -> Change | None:
        """See :meth:`Store.find_commit`."""
        if not is_token(token):
            return None
        result = self._server.ask(statements.FIND, (token.encode(),))
        return change_of(self._store.schema, result, 0) if result.ntuples else None

    def wave(
        self,
        batches: Sequence[Batch],
        targets: Sequence[tuple[str, str]],
        epoch: int | None,
        haste: Value,
    ) -> list[Outcome] | None:
        """Commit independent batches in one call; None where they have to be parted.

        Args:
            batches: see :mod:`.waves`.
            targets: what they refer to.
            epoch: see :mod:`pend_storage.store`.
            haste: ``lock_timeout``.

        Raises:
            Done: some of them are in the change log.
        """
        call = CommitCall(batches, targets)
        repeats = Repeats(self._server, batches, seconds=self._patience, is_hasty=True)
        while True:
            values = call.values(epoch, haste, again=repeats.is_unknown)
            try:
                return call.outcomes(self._answer(statements.COMMIT, values))
            except _Renumbered:
                repeats.again()
            except ConnectionLost as lost:
                repeats.lost(lost)
            except _NO_ANSWER as error:
                repeats.unavailable(error)
            except ServerRefusal as refusal:
                if refusal.is_divisible:
                    return None
                try:
                    repeats.refused(refusal)
                except HeldUp:
                    return None


def _size(batch: Batch) -> int:
    return len(batch.operations) + len(batch.checks)


def _collection(batch: Batch) -> str:
    """The collection that a batch writes, if it is only one."""
    names = {operation.collection for operation in batch.operations}
    return names.pop() if len(names) == 1 else ""


def _text(result: PGresult) -> str:
    return (result.get_value(0, 0) or b"").decode()
