"""Commits: which function of the database takes them, and what its answers mean."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import Final

from psycopg.pq.abc import PGresult

from pend_storage.errors import Conflict, PendStorageError, StoreUnavailable
from pend_storage.records import Batch, Outcome, Put
from pend_storage.sharing import own_copy
from pend_storage.store import Store
from pend_storage.stores.group import Group, Ticket
from pend_storage.stores.postgres import statements
from pend_storage.stores.postgres.calls import CommitCall
from pend_storage.stores.postgres.errors import (
    ConnectionLost,
    ServerRefusal,
    raise_stale,
)
from pend_storage.stores.postgres.server import Server
from pend_storage.stores.postgres.statements import CollectionStatements
from pend_storage.stores.postgres.violations import raise_violation
from pend_storage.stores.postgres.waves import MOST_KEYS, Waves
from pend_storage.stores.postgres.wire import is_storable, number

__all__ = ["Committer"]

LANES: Final = 4
"""Threads that commit at a time, while others wait to be committed for."""
_ATTEMPTS: Final = 8
_LONGEST_PAUSE: Final = 0.1  # seconds


class Committer:
    """Runs the commits of one store."""

    def __init__(
        self,
        store: Store,
        server: Server,
        known: Mapping[str, CollectionStatements],
        *,
        lanes: int,
    ) -> None:
        self._store = store
        self._server = server
        self._known = known
        self._waves = Waves(store.schema)
        self._group = Group(self._carry_out, lanes=max(1, lanes))

    # -- one ----------------------------------------------------------------------

    def commit(self, batch: Batch, epoch: int | None) -> tuple[int, ...]:
        """See :meth:`Store.commit`.

        Where many threads commit, their commits go together.
        """
        possible = _Possible(batch, self._store)
        if len(batch.operations) + len(batch.checks) > MOST_KEYS:
            return self._commit(possible, epoch)  # long: nobody should wait for it
        if self._group.enter():
            try:
                return self._commit(possible, epoch)
            finally:
                self._group.leave()
        ticket = Ticket((possible, epoch))
        self._group.run(ticket)
        versions: tuple[int, ...] = ticket.outcome()
        return versions

    def _carry_out(self, tickets: list[Ticket]) -> None:
        """Commit what several threads want; epochs are hardly ever different."""
        groups: dict[int | None, list[Ticket]] = {}
        for ticket in tickets:
            groups.setdefault(ticket.job[1], []).append(ticket)
        for epoch, alike in groups.items():
            for wave in self._waves.of([ticket.job[0].batch for ticket in alike]):
                self._carry_out_wave([alike[place] for place in wave], epoch)

    def _carry_out_wave(self, tickets: Sequence[Ticket], epoch: int | None) -> None:
        try:
            outcomes = self._together([ticket.job[0] for ticket in tickets], epoch)
        except BaseException as error:
            # Its own thread alone sees what interrupted it.
            reason = "the commit was interrupted"
            unknown = StoreUnavailable(
                reason, store=self._server.name, outcome_known=False
            )
            unknown.__cause__ = error
            for ticket in tickets:
                ticket.fail(unknown)
            raise
        for ticket, outcome in zip(tickets, outcomes, strict=True):
            ticket.settle(outcome)

    def _commit(self, possible: _Possible, epoch: int | None) -> tuple[int, ...]:
        """Commit it.

        A deadlock, or a rule that was broken a moment ago and is not any more, is tried
        again: nothing was written.
        """
        batch, broken = possible.batch, ""
        for attempt in range(_ATTEMPTS):
            try:
                return possible.versions(self._once(batch, epoch))
            except ConnectionLost as lost:
                if lost.sent or attempt + 1 == _ATTEMPTS:
                    raise self._server.lost(lost) from lost
            except ServerRefusal as refusal:
                self._judge(refusal, batch)
                broken = refusal.constraint
            _pause(attempt)
        raise self._in_the_way(broken)

    def _once(self, batch: Batch, epoch: int | None) -> tuple[int, ...]:
        operations, checks = batch.operations, batch.checks
        if len(operations) == 1 and isinstance(put := operations[0], Put):
            expected = checks.get((put.collection, put.key))
            if len(checks) == (expected is not None):
                return self._put(put, expected, epoch)
        call = CommitCall([batch])
        result = self._server.run(statements.COMMIT, call.values(epoch))
        answer = _answer(result)
        raise_stale(answer, self._server.name)
        (outcome,) = call.outcomes(answer)
        if isinstance(outcome, PendStorageError):
            raise outcome
        return outcome

    def _put(self, put: Put, expected: int | None, epoch: int | None) -> tuple[int]:
        values = (number(epoch), put.key.encode(), put.body, number(expected))
        known = self._known[put.collection]
        answer = _answer(self._server.run(known.put, values))
        if answer.startswith("conflict "):
            raise Conflict(
                collection=put.collection,
                key=put.key,
                expected=expected or 0,
                actual=int(answer.split()[2]),
            )
        raise_stale(answer, self._server.name)
        return (int(answer),)

    def _judge(self, refusal: ServerRefusal, batch: Batch) -> None:
        """Return if the batch may be tried again."""
        if refusal.is_violation:
            raise_violation(self._store, batch.operations)
        elif not refusal.is_transient:
            names = {operation.collection for operation in batch.operations}
            only = names.pop() if len(names) == 1 else ""
            raise refusal.public(self._server.name, only) from refusal

    def _in_the_way(self, constraint: str = "") -> StoreUnavailable:
        if constraint:
            return StoreUnavailable(
                f"the constraint {constraint!r} refused the commit {_ATTEMPTS} times, "
                "though no record as this program declares it breaks a rule: a newer "
                "program has made the database stricter. Update this one",
                store=self._server.name,
            )
        return StoreUnavailable(
            f"the commit was in the way of others {_ATTEMPTS} times",
            store=self._server.name,
        )

    # -- many ---------------------------------------------------------------------

    def commit_each(self, batches: Sequence[Batch], epoch: int | None) -> list[Outcome]:
        """See :meth:`Store.commit_each`.

        Independent batches go together, in one call that is one transaction.
        """
        found: dict[int, Outcome] = {}
        possible: dict[int, _Possible] = {}
        for place, batch in enumerate(batches):
            try:
                possible[place] = _Possible(batch, self._store)
            except PendStorageError as error:
                found[place] = error
        places = list(possible)
        members = list(possible.values())
        for wave in self._waves.of([member.batch for member in members]):
            outcomes = self._together([members[index] for index in wave], epoch)
            found.update(zip((places[i] for i in wave), outcomes, strict=True))
        return [found[place] for place in range(len(batches))]

    def _together(
        self, members: Sequence[_Possible], epoch: int | None
    ) -> list[Outcome]:
        """What comes of the batches of one wave."""
        if len(members) == 1:
            try:
                return [self._commit(members[0], epoch)]
            except PendStorageError as error:
                return [error]
        try:
            outcomes = self._wave([member.batch for member in members], epoch)
        except PendStorageError as error:
            return [own_copy(error) for _ in members]
        if outcomes is None:
            # One of them must not fail the others.
            half = len(members) // 2
            first = self._together(members[:half], epoch)
            return first + self._together(members[half:], epoch)
        return [
            m.versions(outcome) if isinstance(outcome, tuple) else outcome
            for m, outcome in zip(members, outcomes, strict=True)
        ]

    def _wave(
        self, batches: Sequence[Batch], epoch: int | None
    ) -> list[Outcome] | None:
        """Commit them in one call; None where they have to be parted."""
        targets = [t for batch in batches for t in self._waves.targets(batch)]
        call = CommitCall(batches, targets)
        values = call.values(epoch)
        for attempt in range(_ATTEMPTS):
            try:
                answer = _answer(self._server.run(statements.COMMIT, values))
            except ConnectionLost as lost:
                if lost.sent or attempt + 1 == _ATTEMPTS:
                    raise self._server.lost(lost) from lost
            except ServerRefusal as refusal:
                if refusal.is_divisible:
                    return None
                if not refusal.is_transient:
                    raise refusal.public(self._server.name) from refusal
            else:
                raise_stale(answer, self._server.name)
                return call.outcomes(answer)
            _pause(attempt)
        raise self._in_the_way()


def _answer(result: PGresult) -> str:
    return (result.get_value(0, 0) or b"").decode()


def _pause(attempt: int) -> None:
    limit = min(_LONGEST_PAUSE, 0.001 * 2**attempt)
    time.sleep(random.uniform(0, limit))  # noqa: S311 - not a secret


class _Possible:
    """A batch without keys that no record can have.

    Deleting such a key, or demanding that it is not there, is no error; but the server
    could not even be asked.
    """

    __slots__ = ("_places", "batch")

    def __init__(self, batch: Batch, store: Store) -> None:
        for operation in batch.operations:
            store.schema[operation.collection]  # an unknown one fails nobody else
        for name, _ in batch.checks:
            store.schema[name]
        self.batch = batch
        self._places: list[int] | None = None
        """Where the operations of the caller's batch stand, if it is another one."""
        if not all(is_storable(o.key) for o in batch.operations) or not all(
            is_storable(key) for _, key in batch.checks
        ):
            self._leave_out(batch)

    def _leave_out(self, batch: Batch) -> None:
        for (collection, key), expected in batch.checks.items():
            if expected and not is_storable(key):
                raise Conflict(
                    collection=collection, key=key, expected=expected, actual=0
                )
        checks = {p: v for p, v in batch.checks.items() if is_storable(p[1])}
        kept = [o for o in batch.operations if is_storable(o.key)]
        self._places = [
            kept.index(o) if is_storable(o.key) else -1 for o in batch.operations
        ]
        self.batch = Batch(tuple(kept), checks)

    def versions(self, given: tuple[int, ...]) -> tuple[int, ...]:
        """The versions of the caller's operations."""
        if self._places is None:
            return given
        return tuple(0 if place < 0 else given[place] for place in self._places)
