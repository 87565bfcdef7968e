"""Commits: which function of the database takes them, and what its answers mean."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from psycopg.pq.abc import PGresult

from pend_storage.errors import (
    ConfigError,
    Conflict,
    PendStorageError,
    SchemaOutOfDate,
    StoreUnavailable,
)
from pend_storage.records import Batch, Change, Outcome, Put
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
from pend_storage.stores.postgres.functions import MANY_KEYS
from pend_storage.stores.postgres.link import Statement
from pend_storage.stores.postgres.lock_holders import lock_holders
from pend_storage.stores.postgres.possible import Possible
from pend_storage.stores.postgres.repeating import HeldUp, LockHeld, Repeats
from pend_storage.stores.postgres.rows import change_of
from pend_storage.stores.postgres.server import Server
from pend_storage.stores.postgres.statements import CollectionStatements
from pend_storage.stores.postgres.tables import TOKEN_CONSTRAINT
from pend_storage.stores.postgres.violations import raise_violation
from pend_storage.stores.postgres.waves import MOST_KEYS, Waves
from pend_storage.stores.postgres.wire import (
    Value,
    flag,
    is_token,
    number,
    optional,
    token_value,
)

__all__ = ["LANES", "Committer"]

LANES: Final = 4
"""Threads that commit at a time, while others wait to be committed for."""
_HASTE: Final = b"250ms"
"""``lock_timeout`` of a commit in a lane while others wait for one."""
_HASTE_TOGETHER: Final = b"100ms"
"""The same for commits that go together: the one that is held up is searched by halves."""
_NO_ANSWER: Final = (StoreUnavailable, SchemaOutOfDate, ConfigError)
"""What a call meets before it is made."""


class _Done(Exception):
    """Commits are in the change log already; nothing was written."""

    def __init__(self, places: tuple[int, ...]) -> None:
        self.places = places
        super().__init__()


class _Renumbered(Exception):
    """Numbers had to be raised above those in the log; nothing was written."""


class _Wait:
    """How the commits of one wave wait for what somebody else holds."""

    def __init__(self, patience: float, *, hasty: bool) -> None:
        self.hasty = hasty
        """Whether each of them has somebody who waits for it by himself."""
        self.error: LockHeld | None = None
        """Of one that has waited in vain; those after it are in a hurry."""
        self._until = time.monotonic() + 2 * patience

    @property
    def is_over(self) -> bool:
        """Whether there was enough waiting."""
        return self.error is not None and time.monotonic() > self._until


class Committer:
    """Runs the commits of one store."""

    def __init__(
        self,
        store: Store,
        server: Server,
        known: Mapping[str, CollectionStatements],
        *,
        size: int,
        patience: float,
    ) -> None:
        """Make one.

        Args:
            store: whose commits they are.
            server: where they are made.
            known: the statements of each collection.
            size: how many connections there are.
            patience: seconds for which a lost answer is asked for, and a lock waited for.
        """
        self._store = store
        self._server = server
        self._known = known
        self._patience = patience
        self._waves = Waves(store.schema)
        self._group = Group(self._carry_out, lanes=max(1, min(LANES, size)))
        self._room = threading.BoundedSemaphore(max(1, (size - LANES) // 2))
        """For those who wait outside of the lanes."""

    # -- one ----------------------------------------------------------------------

    def commit(self, batch: Batch, epoch: int | None) -> tuple[int, ...]:
        """See :meth:`Store.commit`.

        Where many threads commit, their commits go together. One that is held up by
        somebody's lock leaves its lane to others, and goes on waiting by itself.
        """
        possible = Possible(batch, self._store)
        if len(batch.operations) + len(batch.checks) > MOST_KEYS:
            return self._commit(possible, epoch)  # long: nobody should wait for it
        if self._group.enter():
            try:
                return self._commit(possible, epoch, hasty=self._group.is_shared)
            except HeldUp:
                pass
            finally:
                self._group.leave()
            return self._outside(possible, epoch)
        ticket = Ticket((possible, epoch))
        self._group.run(ticket)
        try:
            versions: tuple[int, ...] = ticket.outcome()
        except HeldUp:
            return self._outside(possible, epoch)
        return versions

    def _outside(self, possible: Possible, epoch: int | None) -> tuple[int, ...]:
        """Commit outside of the lanes, on some of the connections at most."""
        if not self._room.acquire(timeout=self._patience):
            reason = "too many commits wait for locks that somebody holds"
            raise StoreUnavailable(
                reason + lock_holders(self._server), store=self._server.name
            )
        try:
            return self._commit(possible, epoch)
        finally:
            self._room.release()

    def _carry_out(self, tickets: list[Ticket]) -> None:
        """Commit what several threads want; epochs are hardly ever different."""
        groups: dict[int | None, list[Ticket]] = {}
        for ticket in tickets:
            groups.setdefault(ticket.job[1], []).append(ticket)
        for epoch, alike in groups.items():
            for wave in self._waves.of([ticket.job[0].batch for ticket in alike]):
                self._carry_out_wave([alike[place] for place in wave], epoch)

    def _carry_out_wave(self, tickets: Sequence[Ticket], epoch: int | None) -> None:
        members = [ticket.job[0] for ticket in tickets]
        try:
            wait = _Wait(self._patience, hasty=True)
            outcomes = self._together(members, epoch, wait)
        except BaseException as error:
            # Its own thread alone sees what interrupted it.
            reason = "the commit was interrupted"
            for ticket, member in zip(tickets, members, strict=True):
                unknown = StoreUnavailable(
                    reason,
                    store=self._server.name,
                    outcome_known=False,
                    token=member.batch.token or None,
                )
                unknown.__cause__ = error
                ticket.fail(unknown)
            raise
        for ticket, outcome in zip(tickets, outcomes, strict=True):
            ticket.settle(outcome)

    def _commit(
        self, possible: Possible, epoch: int | None, *, hasty: bool = False
    ) -> tuple[int, ...]:
        """Commit it; see :meth:`_repeat` for where it does not go through at once.

        Raises:
            HeldUp: it is hasty, and somebody holds what it needs.
        """
        haste = _HASTE if hasty else None
        try:
            return possible.versions(
                self._once(possible.batch, epoch, haste, again=False)
            )
        except (ConnectionLost, ServerRefusal, _Done, _Renumbered) as error:
            return self._repeat(possible, epoch, haste, error)

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
                    return possible.versions(
                        self._once(batch, epoch, haste, again=repeats.is_unknown)
                    )
                failed, error = error, None
                raise failed
            except _Done:
                return self._given(possible)
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
            return self._given(possible)
        if refusal.constraint != TOKEN_CONSTRAINT:
            raise_violation(self._store, possible.batch.operations)
        return None

    def _given(self, possible: Possible) -> tuple[int, ...]:
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
            raise _Done(tuple(map(int, answer.split()[1:])))
        raise_stale(answer, self._server.name)
        return answer

    def find(self, token: str) -> Change | None:
        """See :meth:`Store.find_commit`."""
        if not is_token(token):
            return None
        result = self._server.ask(statements.FIND, (token.encode(),))
        return change_of(self._store.schema, result, 0) if result.ntuples else None

    # -- many ---------------------------------------------------------------------

    def commit_each(self, batches: Sequence[Batch], epoch: int | None) -> list[Outcome]:
        """See :meth:`Store.commit_each`.

        Independent batches go together, in one call that is one transaction.
        """
        found: dict[int, Outcome] = {}
        possible: dict[int, Possible] = {}
        for place, batch in enumerate(batches):
            try:
                possible[place] = Possible(batch, self._store)
            except PendStorageError as error:
                found[place] = error
        places = list(possible)
        members = list(possible.values())
        for wave in self._waves.of([member.batch for member in members]):
            wait = _Wait(self._patience, hasty=False)
            outcomes = self._together([members[i] for i in wave], epoch, wait)
            found.update(zip((places[i] for i in wave), outcomes, strict=True))
        return [found[place] for place in range(len(batches))]

    def _together(
        self, members: Sequence[Possible], epoch: int | None, wait: _Wait
    ) -> list[Outcome]:
        """What comes of the batches of one wave."""
        if wait.error is not None and wait.is_over:
            return [own_copy(wait.error) for _ in members]
        if len(members) == 1:
            return [self._one_of(members[0], epoch, wait)]
        try:
            outcomes = self._wave([member.batch for member in members], epoch)
        except _Done as done:
            return self._without(set(done.places), members, epoch, wait)
        except PendStorageError as error:
            return [_own(error, member) for member in members]
        if outcomes is None:
            # One of them must not fail the others.
            half = len(members) // 2
            first = self._together(members[:half], epoch, wait)
            return first + self._together(members[half:], epoch, wait)
        return [
            m.versions(outcome) if isinstance(outcome, tuple) else outcome
            for m, outcome in zip(members, outcomes, strict=True)
        ]

    def _one_of(self, member: Possible, epoch: int | None, wait: _Wait) -> Outcome:
        """What comes of one of them, which had to be parted from the others."""
        hasty = wait.hasty or wait.error is not None
        try:
            return self._commit(member, epoch, hasty=hasty)
        except HeldUp as held:
            return held if wait.error is None else own_copy(wait.error)
        except LockHeld as error:
            wait.error = error
            return error
        except PendStorageError as error:
            return error

    def _without(
        self,
        done: set[int],
        members: Sequence[Possible],
        epoch: int | None,
        wait: _Wait,
    ) -> list[Outcome]:
        """Commit those that are not in the log yet; the others give what they gave."""
        rest = [m for place, m in enumerate(members) if place not in done]
        others = iter(self._together(rest, epoch, wait) if rest else ())
        outcomes: list[Outcome] = []
        for place, member in enumerate(members):
            try:
                outcomes.append(self._given(member) if place in done else next(others))
            except PendStorageError as error:
                outcomes.append(error)
        return outcomes

    def _wave(
        self, batches: Sequence[Batch], epoch: int | None
    ) -> list[Outcome] | None:
        """Commit them in one call; None where they have to be parted."""
        targets = [t for batch in batches for t in self._waves.targets(batch)]
        call = CommitCall(batches, targets)
        repeats = Repeats(self._server, batches, seconds=self._patience, is_hasty=True)
        while True:
            values = call.values(epoch, _HASTE_TOGETHER, again=repeats.is_unknown)
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


def _own(error: PendStorageError, member: Possible) -> PendStorageError:
    """An error that is about all of a wave, for one of them."""
    if isinstance(error, StoreUnavailable) and not error.outcome_known:
        own = StoreUnavailable(
            error.reason,
            store=error.store,
            outcome_known=False,
            token=member.batch.token or None,
        )
        own.__cause__ = error
        return own
    return own_copy(error)
