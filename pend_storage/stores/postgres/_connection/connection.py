"""One connection over libpq: statements in, results out, every wait bounded.

A cursor of the driver costs more than the server's whole work on a row. What is left
out here (adapting values, describing columns) is not needed, because parameters and
results are bytes that other modules encode and decode.

There are two ways to wait for an answer. The main thread waits in Python, because only
there can a signal interrupt it. Other threads leave the waiting to libpq: that releases
the interpreter once for a whole answer, and beside a busy event loop each release costs
up to 5 ms (``sys.getswitchinterval``). The pool aborts waits that exceed the response
timeout.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

import psycopg
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

from pend_storage.stores._signal_shield import in_main_thread
from pend_storage.stores.postgres._connection.own_names import (
    DEFAULT_SCHEMA,
    OWN,
    with_names,
)
from pend_storage.stores.postgres._connection.server_errors import (
    ConnectionLost,
    parse_refusal,
    proves_not_executed,
)
from pend_storage.stores.postgres._connection.server_facts import (
    ProbeResult,
    ServerFacts,
)
from pend_storage.stores.postgres._connection.server_messages import (
    one_line,
    reason_of,
    termination_code,
    text_of,
)
from pend_storage.stores.postgres._connection.wire_format import Value

__all__ = ["LibpqConnection", "Statement"]

_NUMBERS: Final = count(1)
_MARK: Final = OWN.encode()
_GOOD: Final = frozenset({ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK})


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL text with the formats of its parameters; own names have the mark.

    A statement with a name is prepared once on each connection.
    """

    text: bytes
    formats: tuple[int, ...] = ()
    name: bytes = b""

    @classmethod
    def make(cls, text: str, formats: Sequence[int] = ()) -> Statement:
        """Make a named statement, worth preparing. Call once per text.

        Args:
            text: SQL with ``$1`` placeholders.
            formats: 1 for each binary parameter, 0 for text; empty if all are text.
        """
        return cls(text.encode(), tuple(formats), b"pend_%d" % next(_NUMBERS))


def _close(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    with contextlib.suppress(psycopg.Error, OSError):
        connection.close()


def _close_lost(
    connection: psycopg.Connection[tuple[object, ...]], owner_pid: int
) -> None:
    """Close the connection of an object that is garbage, in the process that opened it."""
    if owner_pid == os.getpid():
        _close(connection)


class LibpqConnection:
    """Connection used by one thread at a time."""

    owner_pid = -1
    """Process that closes the connection when it is garbage; -1: none does."""

    def __init__(
        self,
        driver_connection: psycopg.Connection[tuple[object, ...]],
        *,
        prepare: bool,
        response_timeout: float,
        schema: str = DEFAULT_SCHEMA,
    ) -> None:
        """Take over an open connection.

        Args:
            driver_connection: in autocommit mode, and not shared.
            prepare: whether the session is exclusive, so that statements may be
                prepared; False behind a pooler, whose messages say nothing of what the
                server did.
            response_timeout: seconds after which a silent server counts as dead. Its
                own statement timeout should be shorter, so that this is the exception.
            schema: of the database, with the tables and functions of the store.
        """
        self.driver_connection = driver_connection
        self.owner_pid = os.getpid()
        """Process that closes the connection when it is garbage; -1: none does."""
        # An interrupt may lose a connection between pool and user. A __del__ here would
        # run after the driver's own where both are in one cycle, and that one complains.
        self._finalizer = weakref.finalize(
            self, _close_lost, driver_connection, self.owner_pid
        )
        self._finalizer.atexit = False
        self.idle_since = 0.0
        self.facts: ServerFacts | None = None
        """Identity of the server; None before the first probe."""
        self.probe_result: ProbeResult | None = None
        """Result of the probe; None once numbering was ensured for this server."""
        self.is_retired = False
        """Whether the pool closes it on release."""
        self.opened_at = time.monotonic()
        self.expires_at = math.inf
        """Monotonic time after which the pool does not reuse it."""
        self.generation = 0
        """Generation of the pool at the time it was opened."""
        self.slot: object = None
        """Pool slot that it occupies; freed when the connection is garbage."""
        self._waiting_since = 0.0
        """Monotonic time at which libpq began to wait for an answer; 0: it does not."""
        self._was_aborted = False
        self._pg = driver_connection.pgconn
        self._prepare = prepare
        self._behind_pooler = not prepare
        self._started_at = 0.0
        self._response_timeout = response_timeout
        self._prepared: set[bytes] = set()
        self.schema: Final = schema
        """Schema of the database with the tables and functions of the store."""
        self._own = with_names(OWN, schema).encode()
        self._poll = select.poll()
        self._poll.register(self._pg.socket, select.POLLIN)

    @property
    def encoding(self) -> str:
        """``server_encoding``, as reported when the connection was opened."""
        return (self._pg.parameter_status(b"server_encoding") or b"").decode()

    @property
    def is_usable(self) -> bool:
        """True if it can take a statement: open, idle, and outside of a transaction.

        Costs no round trip: a server that has gone away leaves the end of the stream,
        or its last message, to be read.
        """
        try:
            self._pg.consume_input()  # a last message, perhaps
            self._pg.consume_input()  # the end after them
        except psycopg.OperationalError:
            return False
        return self.is_ready

    @property
    def is_ready(self) -> bool:
        """True if the last statement left it ready for another one."""
        return (
            not self.is_retired
            and self._pg.status == ConnStatus.OK
            and self._pg.transaction_status == TransactionStatus.IDLE
        )

    def detach(self) -> psycopg.Connection[tuple[object, ...]]:
        """Hand over the driver's connection, which this object no longer closes."""
        self.owner_pid = -1
        self._finalizer.detach()
        return self.driver_connection

    def close(self) -> None:
        """Close the socket."""
        self._finalizer.detach()
        _close(self.driver_connection)

    def execute(self, statement: Statement, values: Sequence[Value] = ()) -> PGresult:
        """Execute a statement and wait for its result.

        Args:
            statement: prepared on first use where it has a name.
            values: its parameters, in the statement's formats.

        Raises:
            ServerRefusal: the server answered with an error.
            ConnectionLost: it did not answer, or a pooler or proxy answered in its
                place.
        """
        self._started_at = time.monotonic()
        name = statement.name if self._prepare else b""
        if name and name not in self._prepared:
            self._prepare_statement(name, statement)
        if in_main_thread():
            return self._run_in_python(name, statement, values)
        return self._run_in_libpq(name, statement, values)

    def _text(self, statement: Statement) -> bytes:
        return statement.text.replace(_MARK, self._own)

    def with_names(self, text: str) -> str:
        """Text of a statement for the driver, with the names of this store's schema."""
        return with_names(text, self.schema)

    def _prepare_statement(self, name: bytes, statement: Statement) -> None:
        try:
            self._pg.send_prepare(name, self._text(statement))
            self._result()
        except psycopg.OperationalError as error:
            raise ConnectionLost(reason_of(error), sent=False) from error
        except ConnectionLost as lost:  # preparing executes nothing
            raise ConnectionLost(lost.reason, sent=False) from lost
        self._prepared.add(name)

    def _run_in_python(
        self, name: bytes, statement: Statement, values: Sequence[Value]
    ) -> PGresult:
        pg, sent = self._pg, False
        try:
            if name:
                pg.send_query_prepared(name, values, statement.formats or None)
            else:
                pg.send_query_params(
                    self._text(statement), values, None, statement.formats or None
                )
            sent = True
            return self._result()
        except psycopg.OperationalError as error:
            raise ConnectionLost(reason_of(error), sent=sent) from error

    def _run_in_libpq(
        self, name: bytes, statement: Statement, values: Sequence[Value]
    ) -> PGresult:
        pg, formats = self._pg, statement.formats or None
        self._waiting_since = self._started_at
        """Monotonic time at which libpq began to wait for an answer; 0: it does not."""
        try:
            if name:
                # None is null here too, though not by its annotation.
                result = pg.exec_prepared(name, values, formats)  # type: ignore[arg-type]
            else:
                result = pg.exec_params(self._text(statement), values, None, formats)
        except psycopg.OperationalError as error:
            raise ConnectionLost(reason_of(error), sent=True) from error
        finally:
            self._waiting_since = 0.0
        if result.status in _GOOD:
            return result
        if self._was_aborted:
            raise ConnectionLost(self._no_answer, sent=True)
        raise self._error_of(result, pg.error_message)

    def _error_of(self, result: PGresult, said: bytes) -> Exception:
        """Classify an error result as a refusal or as a lost connection.

        Args:
            result: the error.
            said: libpq's whole message. Where libpq waited by itself, the result has
                only the last part of it, without the SQLSTATE of the server's message.
        """
        refusal = parse_refusal(result, time.monotonic() - self._started_at)
        if self._pg.status == ConnStatus.OK and not refusal.may_be_from_pooler(
            pooled=self._behind_pooler
        ):
            return refusal
        # A pooler may keep a session open after an error of its own; the next answer on
        # that session belongs to another statement.
        self.is_retired = True
        """Whether the pool closes it on release."""
        code = refusal.code or termination_code(said)
        reason = refusal.message if refusal.code else one_line(text_of(said))
        return ConnectionLost(
            reason, sent=self._behind_pooler or not proves_not_executed(code)
        )

    def abort_if_stalled(self, response_timeout: float) -> None:
        """Abort the statement if libpq has waited too long; called by another thread.

        Args:
            response_timeout: seconds.
        """
        since = self._waiting_since
        if not since or time.monotonic() - since < response_timeout:
            return
        with contextlib.suppress(psycopg.Error):
            self.driver_connection.cancel_safe(timeout=1.0)
        with contextlib.suppress(OSError, psycopg.Error):
            line = socket.socket(fileno=os.dup(self._pg.socket))
            with contextlib.closing(line):
                if self._waiting_since == since:  # still the same statement
                    self._was_aborted = True
                    line.shutdown(socket.SHUT_RDWR)

    @property
    def _no_answer(self) -> str:
        return f"no answer within {self._response_timeout:g} s"

    def execute_text(self, text: str) -> PGresult:
        """Execute a command without parameters."""
        return self.execute(Statement(text.encode()))

    def _result(self) -> PGresult:
        pg = self._pg
        if pg.flush():
            self._flush()
        if not self._poll.poll(self._response_timeout * 1000):
            self._abort()
        pg.consume_input()
        result = self._final_result()
        if result.status in _GOOD:
            return result
        raise self._error_of(result, result.error_message)

    def _final_result(self) -> PGresult:
        """Last result of a statement: deferred constraints report after the rows."""
        result = self._next_result()
        if result is None:
            raise psycopg.OperationalError("the server sent no result")
        try:
            while (later := self._next_result()) is not None:
                if result.status in _GOOD:
                    result = later
        except psycopg.OperationalError:
            if result.status in _GOOD:
                raise  # else it closed after its last message
        return result

    def _next_result(self) -> PGresult | None:
        """Next result, or None after the last one.

        libpq would wait for it as well, but without releasing the interpreter: no other
        thread could run until the last bytes arrive.
        """
        if self._pg.is_busy():
            self._wait_readable()
        return self._pg.get_result()

    def _flush(self) -> None:
        """Send what the socket did not take at once.

        Reads meanwhile: a server with a full send buffer does not read either.
        """
        deadline = time.monotonic() + self._response_timeout
        poll = select.poll()
        poll.register(self._pg.socket, select.POLLIN | select.POLLOUT)
        while self._pg.flush():
            left = deadline - time.monotonic()
            found = poll.poll(left * 1000) if left > 0 else []
            if not found:
                self._abort()
            if found[0][1] & select.POLLIN:
                self._pg.consume_input()

    def _wait_readable(self) -> None:
        deadline = time.monotonic() + self._response_timeout
        while self._pg.is_busy():
            left = deadline - time.monotonic()
            if left <= 0 or not self._poll.poll(left * 1000):
                self._abort()
            self._pg.consume_input()

    def _abort(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self.driver_connection.cancel_safe(timeout=1.0)
        self.close()
        raise psycopg.OperationalError(self._no_answer)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block in one READ COMMITTED transaction."""
        self.execute_text("begin isolation level read committed")
        try:
            yield
        except BaseException:
            with contextlib.suppress(Exception):
                self.execute_text("rollback")
            raise
        self.execute_text("commit")
