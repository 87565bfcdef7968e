"""One connection: statements in, results out, never waiting longer than allowed.

It speaks to libpq directly. A cursor of the driver costs more than the server's whole work
on a row; what is left out here (adapting values, describing columns) nobody needs,
because parameters and results are bytes that other modules make and understand.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

import psycopg
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

from pend_storage.stores.postgres.errors import ConnectionLost, refusal_of
from pend_storage.stores.postgres.wire import Value

__all__ = ["Link", "Statement"]

_NUMBERS: Final = count(1)
_GOOD: Final = frozenset({ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK})


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL text, and which of its parameters are binary.

    A statement with a name is prepared once on each connection.
    """

    text: bytes
    formats: tuple[int, ...] = ()
    name: bytes = b""

    @classmethod
    def make(cls, text: str, formats: Sequence[int] = ()) -> Statement:
        """A statement that is worth preparing; make it once."""
        return cls(text.encode(), tuple(formats), b"pend_%d" % next(_NUMBERS))


class Link:
    """A connection in use by one thread at a time."""

    def __init__(
        self,
        connection: psycopg.Connection[tuple[object, ...]],
        *,
        prepare: bool,
        patience: float,
    ) -> None:
        """Take over an open connection.

        Args:
            connection: in autocommit mode; nobody else uses it any more.
            prepare: whether the session is ours, so that statements may be prepared.
            patience: seconds after which a silent server is taken for dead. Its own
                statement timeout should be shorter, so that this is the exception.
        """
        self.connection = connection
        self.process = os.getpid()
        self.idle_since = 0.0
        self._pg = connection.pgconn
        self._prepare = prepare
        self._patience = patience
        self._prepared: set[bytes] = set()
        self._poll = select.poll()
        self._poll.register(self._pg.socket, select.POLLIN)

    @property
    def is_usable(self) -> bool:
        """Whether it can take a statement: open, quiet, and not in a transaction.

        Costs no round trip: a server that has gone away leaves the end of the stream,
        or its last words, to be read.
        """
        try:
            while self._poll.poll(0):
                self._pg.consume_input()
        except psycopg.OperationalError:
            return False
        return self.is_quiet

    @property
    def is_quiet(self) -> bool:
        """Whether the last statement left it ready for another one."""
        return (
            self._pg.status == ConnStatus.OK
            and self._pg.transaction_status == TransactionStatus.IDLE
        )

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(psycopg.Error, OSError):
            self.connection.close()

    def run(self, statement: Statement, values: Sequence[Value] = ()) -> PGresult:
        """Run a statement and wait for its result.

        Raises:
            ServerRefusal: the server answered with an error.
            ConnectionLost: it did not answer.
        """
        pg = self._pg
        name = statement.name
        sent = False
        try:
            if name and self._prepare:
                if name not in self._prepared:
                    pg.send_prepare(name, statement.text)
                    self._result()
                    self._prepared.add(name)
                pg.send_query_prepared(name, values, statement.formats or None)
            else:
                pg.send_query_params(
                    statement.text, values, None, statement.formats or None
                )
            sent = True
            return self._result()
        except psycopg.OperationalError as error:
            raise ConnectionLost(_reason(error), sent=sent) from error

    def simple(self, text: str) -> PGresult:
        """Run a command that takes no parameters."""
        return self.run(Statement(text.encode()))

    def _result(self) -> PGresult:
        pg = self._pg
        if pg.flush():
            self._flush()
        if not self._poll.poll(self._patience * 1000):
            self._give_up()
        pg.consume_input()
        result = self._last_result()
        if result.status in _GOOD:
            return result
        refusal = refusal_of(result)
        if pg.status == ConnStatus.OK:
            raise refusal
        if refusal.code:  # the server's last words: it did not do it
            raise ConnectionLost(refusal.message, sent=False)
        raise psycopg.OperationalError(_text(result.error_message))

    def _last_result(self) -> PGresult:
        """What a statement came to: deferred constraints speak after the rows."""
        result = self._next_result()
        if result is None:
            raise psycopg.OperationalError("the server sent no result")
        try:
            while (later := self._next_result()) is not None:
                if result.status in _GOOD:
                    result = later
        except psycopg.OperationalError:
            if result.status in _GOOD:
                raise  # else it hung up after its last words
        return result

    def _next_result(self) -> PGresult | None:
        """The next result, or None after the last one.

        libpq would wait for it as well, but with the interpreter locked: no other thread
        could run until the last bytes are here.
        """
        if self._pg.is_busy():
            self._wait()
        return self._pg.get_result()

    def _flush(self) -> None:
        """Send what the socket did not take at once.

        The server may not listen before somebody listens to it.
        """
        deadline = time.monotonic() + self._patience
        poll = select.poll()
        poll.register(self._pg.socket, select.POLLIN | select.POLLOUT)
        while self._pg.flush():
            left = deadline - time.monotonic()
            found = poll.poll(left * 1000) if left > 0 else []
            if not found:
                self._give_up()
            if found[0][1] & select.POLLIN:
                self._pg.consume_input()

    def _wait(self) -> None:
        deadline = time.monotonic() + self._patience
        while self._pg.is_busy():
            left = deadline - time.monotonic()
            if left <= 0 or not self._poll.poll(left * 1000):
                self._give_up()
            self._pg.consume_input()

    def _give_up(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self.connection.cancel_safe(timeout=1.0)
        self.close()
        raise psycopg.OperationalError(f"no answer within {self._patience:g} s")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside takes effect together, or not at all."""
        self.simple("begin isolation level read committed")
        try:
            yield
        except BaseException:
            with contextlib.suppress(Exception):
                self.simple("rollback")
            raise
        self.simple("commit")


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return "; ".join(line for line in lines if line) or type(error).__name__


def _text(message: bytes | str) -> str:
    return message if isinstance(message, str) else message.decode(errors="replace")
