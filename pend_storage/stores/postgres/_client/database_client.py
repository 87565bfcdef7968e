"""Work on the server: connections taken and given back, errors translated, repeats.

The one place at which what the driver raises becomes what the library raises.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from psycopg.pq.abc import PGresult

from pend_storage.errors import PendStorageError, SchemaOutOfDate, StoreUnavailable
from pend_storage.events import Event, Hook
from pend_storage.schema import Schema
from pend_storage.stores.postgres._client.connection_probe import look_at, settle
from pend_storage.stores.postgres._client.failover_detector import Watch
from pend_storage.stores.postgres._client.schema_revision import require_current
from pend_storage.stores.postgres._connection.connection import Link, Statement
from pend_storage.stores.postgres._connection.connector import Connector
from pend_storage.stores.postgres._connection.pool import Pool
from pend_storage.stores.postgres._connection.server_errors import (
    ConnectionLost,
    ServerRefusal,
)
from pend_storage.stores.postgres._connection.server_facts import Look
from pend_storage.stores.postgres._connection.wire_format import Value

__all__ = ["Server"]

T = TypeVar("T")

_TIMES: Final = 3
_FRESH: Final = 1.0
"""Seconds for which what a new connection found is taken for still true."""


class _LostUnfit(ConnectionLost):
    """The connection died while it was looked at, before it was used."""


class Server:
    """A database that has been migrated to a schema."""

    def __init__(
        self, schema: Schema, connector: Connector, pool: Pool, hook: Hook
    ) -> None:
        self.name = str(connector.address)
        """How errors call the store."""
        self._schema = schema
        self._pool = pool
        self._watch = Watch(self.name, pool, hook)
        self._hook = hook
        self._added_by: str | None = None
        """The module of a newer program that has added to the schema."""

    @property
    def generation(self) -> int:
        """Grows whenever a connection leads to another server than those before."""
        return self._watch.generation

    def ask(self, statement: Statement, values: Sequence[Value] = ()) -> PGresult:
        """The result of a statement that only looks; asked again on a new connection.

        Raises:
            StoreUnavailable: there was no answer the second time either.
        """
        return self._asked(lambda link: link.run(statement, values))

    def _asked(self, question: Callable[[Link], T]) -> T:
        try:
            return self._once(question)
        except ServerRefusal as refusal:
            if not refusal.is_transient:
                raise refusal.public(self.name) from refusal
        except ConnectionLost:
            pass  # the server was restarted, perhaps
        try:
            return self._once(question)
        except ServerRefusal as refusal:
            raise refusal.public(self.name) from refusal
        except ConnectionLost as lost:
            raise StoreUnavailable(lost.reason, store=self.name) from lost

    def incarnation(self) -> str:
        """What stands behind the address at this moment, asked of a connection.

        Raises:
            StoreUnavailable: it cannot be reached.
        """

        def question(link: Link) -> str:
            facts = look_at(link).facts
            self._watch.saw(link, facts)
            return facts.incarnation

        return self._asked(question)

    def write(
        self,
        attempt: Callable[[Link], T],
        *,
        harmless: bool,
        judge: Callable[[], None] | None = None,
    ) -> T:
        """Do a piece of work that writes.

        Args:
            attempt: the work, as a whole or not at all.
            harmless: whether doing it twice does no harm, so that it may be done again
                where it is not known whether it was done.
            judge: raises what rule was broken, where the server says that one was; if
                it returns, none is any more, and the work is done again.

        Raises:
            StoreUnavailable: ``outcome_known`` tells whether it may have been done.
        """
        left = _TIMES
        while True:
            left -= 1
            try:
                return self._once(attempt, writing=True)
            except ServerRefusal as refusal:
                if refusal.is_violation and judge is not None:
                    judge()
                if not left or not (refusal.is_transient or refusal.is_violation):
                    raise refusal.public(self.name) from refusal
            except ConnectionLost as lost:
                if not left or (lost.sent and not harmless):
                    raise self.lost(lost) from lost

    def run(self, statement: Statement, values: Sequence[Value]) -> PGresult:
        """The result of a commit, once; for callers who know what its errors mean.

        Raises:
            ServerRefusal: the server answered with an error.
            ConnectionLost: it did not answer.
        """
        return self._once(lambda link: link.run(statement, values), writing=True)

    def _once(self, attempt: Callable[[Link], T], *, writing: bool = False) -> T:
        """Do it once; what only this connection refuses, once more on a new one."""
        link = self.take(writing=writing)
        try:
            return attempt(link)
        except ServerRefusal as refusal:
            if not refusal.is_of_session:
                raise
            link.is_retired = True
            # A server that was just found read-only needs no second look.
            is_fresh = time.monotonic() - link.since < _FRESH
            if is_fresh and link.facts is not None and link.facts.is_read_only:
                raise
        finally:
            self._pool.give_back(link)
        self._pool.renew()  # others lead to the same server, or have the same plans
        link = self.take(writing=writing)
        try:
            return attempt(link)
        except ServerRefusal as refusal:
            link.is_retired = refusal.is_of_session
            raise
        finally:
            self._pool.give_back(link)

    def lost(self, lost: ConnectionLost) -> StoreUnavailable:
        """The public error for a connection that died during a write."""
        return StoreUnavailable(
            lost.reason, store=self.name, outcome_known=not lost.sent
        )

    def take(self, *, writing: bool = False) -> Link:
        """A connection to a database that fits the schema; to be given back.

        Args:
            writing: whether numbers will be given on it. Who only looks changes nothing.

        Raises:
            SchemaOutOfDate: the database does not fit.
            ConfigError: the server or its address must be corrected.
            StoreUnavailable: it cannot be reached.
        """
        try:
            try:
                return self._fit(self._pool.take(), writing=writing)
            except _LostUnfit:  # it does no harm to look, and to note, once more
                return self._fit(self._pool.take(), writing=writing)
        except ConnectionLost as lost:
            raise StoreUnavailable(lost.reason, store=self.name) from lost

    def _fit(self, link: Link, *, writing: bool) -> Link:
        """See that a connection leads to the right database, once for each."""
        try:
            if link.facts is None:
                self._check(link)
            if writing and link.look is not None:
                self._settle(link, link.look)
        except ConnectionLost as lost:
            raise _LostUnfit(lost.reason, sent=False) from lost
        return link

    def forget(self) -> None:
        """Look at the database's revision again before it is used the next time."""
        self._pool.renew()

    def settle(self) -> None:
        """Have a database that was just migrated note where it is.

        Those who only look at it later have nothing to note then.
        """
        self.forget()
        with contextlib.suppress(PendStorageError):  # told to who uses it
            self._pool.give_back(self.take(writing=True))

    def require_open(self) -> None:
        """Refuse to work after :meth:`close`.

        Raises:
            StoreUnavailable: it has been closed.
        """
        if self._pool.is_closed:
            raise StoreUnavailable("the store is closed", store=self.name)

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def _check(self, link: Link) -> None:
        with self._unfit(link):
            look = require_current(link, self._schema, self.name)
            self._watch.saw(link, look.facts)
            link.look = look
            before, self._added_by = self._added_by, look.added_by
        if look.added_by is not None and before is None:
            self._hook(
                Event(
                    "schema-behind",
                    f"{self.name}: a newer program ({look.added_by}) has added to the "
                    "schema. This program goes on reading and writing, and keeps what it "
                    "does not know; the change log and following are left to programs "
                    "with the newer schema",
                    logging.WARNING,
                )
            )

    def require_whole(self) -> None:
        """Refuse what a program with an older schema cannot do without a loss.

        To be asked when a connection has been taken: that is when it is known.

        Raises:
            SchemaOutOfDate: a newer program has added to the schema.
        """
        if self._added_by is not None:
            raise SchemaOutOfDate(
                f"{self.name}: a newer program ({self._added_by}) has added to the "
                "schema, so this one cannot pass on whole records. Leave that to the "
                "newer program, or update this one; nothing was changed."
            )

    def _settle(self, link: Link, look: Look) -> None:
        with self._unfit(link):
            settle(link, look)
            link.look = None

    @contextlib.contextmanager
    def _unfit(self, link: Link) -> Iterator[None]:
        """Close a connection that is not found fit."""
        try:
            yield
        except ServerRefusal as refusal:
            self._give_up(link)
            raise refusal.public(self.name) from refusal
        except BaseException:
            self._give_up(link)
            raise

    def _give_up(self, link: Link) -> None:
        """Close a connection that was not found fit: the next one is looked at anew."""
        link.is_retired = True
        self._pool.give_back(link)
