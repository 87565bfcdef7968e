"""One connection: statements in, results out, never waiting longer than allowed.

It speaks to libpq directly. A cursor of the driver costs more than the server's whole work
on a row; what is left out here (adapting values, describing columns) nobody needs,
because parameters and results are bytes that other modules make and understand.

There are two ways to wait for an answer. The main thread waits in Python, because only
there can a signal interrupt it. Other threads leave the waiting to libpq: that lets go of
the interpreter once for a whole answer, and where an event loop keeps it busy each time
costs up to 5 ms (``sys.getswitchinterval``). The pool watches that none waits for ever.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

import psycopg
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

from pend_storage.stores.postgres.errors import (
    ConnectionLost,
    is_not_done,
    refusal_of,
)
from pend_storage.stores.postgres.facts import Look, ServerFacts
from pend_storage.stores.postgres.wire import Value
from pend_storage.stores.signal_shield import in_main_thread

__all__ = ["Link", "Statement"]

_NUMBERS: Final = count(1)
_LAST_WORDS: Final = (
    (rb"administrator command", "57P01"),
    (rb"idle-in-transaction timeout", "25P03"),
    (rb"transaction timeout", "25P04"),
    (rb"idle-session timeout", "57P05"),
)
"""How a server begins to tell why it ends a session, and the SQLSTATE for that."""
_WHERE: Final = re.compile(r"LINE \d+:|(QUERY|CONTEXT|STATEMENT):")
"""How the parts of a message begin that say where in its own text a server was."""
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

    process = -1
    """The process that closes it when nobody has it any more."""

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
            prepare: whether the session is ours, so that statements may be prepared;
                False behind a pooler, whose words say nothing of what the server did.
            patience: seconds after which a silent server is taken for dead. Its own
                statement timeout should be shorter, so that this is the exception.
        """
        self.connection = connection
        self.process = os.getpid()
        self.idle_since = 0.0
        self.facts: ServerFacts | None = None
        """What it leads to; None before that was looked at."""
        self.look: Look | None = None
        """What the database had noted; None once numbers may be given on it."""
        self.is_retired = False
        """Whether it is closed when its present user gives it back."""
        self.since = time.monotonic()
        self.ends = math.inf
        """When it is too old to be used again."""
        self.generation = 0
        """Of the pool, when it was made."""
        self.slot: object = None
        """The pool's room for it, which is free again when nobody has it any more."""
        self._busy_since = 0.0
        """When libpq was left to wait for an answer; 0: it was not."""
        self._gave_up = False
        self._pg = connection.pgconn
        self._prepare = prepare
        self._pooled = not prepare
        self._began = 0.0
        self._patience = patience
        self._prepared: set[bytes] = set()
        self._poll = select.poll()
        self._poll.register(self._pg.socket, select.POLLIN)

    @property
    def encoding(self) -> str:
        """``server_encoding``, as it was told when the connection was made."""
        return (self._pg.parameter_status(b"server_encoding") or b"").decode()

    @property
    def is_usable(self) -> bool:
        """Whether it can take a statement: open, quiet, and not in a transaction.

        Costs no round trip: a server that has gone away leaves the end of the stream,
        or its last words, to be read.
        """
        try:
            self._pg.consume_input()  # last words, perhaps
            self._pg.consume_input()  # the end after them
        except psycopg.OperationalError:
            return False
        return self.is_quiet

    @property
    def is_quiet(self) -> bool:
        """Whether the last statement left it ready for another one."""
        return (
            not self.is_retired
            and self._pg.status == ConnStatus.OK
            and self._pg.transaction_status == TransactionStatus.IDLE
        )

    def __del__(self) -> None:
        """Hang up where an interrupt lost it on the way to or from its user."""
        if self.process == os.getpid():
            self.close()

    def release(self) -> psycopg.Connection[tuple[object, ...]]:
        """The connection itself, for somebody who uses it in another way."""
        self.process = -1
        return self.connection

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(psycopg.Error, OSError):
            self.connection.close()

    def run(self, statement: Statement, values: Sequence[Value] = ()) -> PGresult:
        """Run a statement and wait for its result.

        Raises:
            ServerRefusal: the server answered with an error.
            ConnectionLost: it did not answer, or somebody between here and the server
                answered in its place.
        """
        self._began = time.monotonic()
        name = statement.name if self._prepare else b""
        if name and name not in self._prepared:
            self._prepare_statement(name, statement)
        if in_main_thread():
            return self._run_in_python(name, statement, values)
        return self._run_in_libpq(name, statement, values)

    def _prepare_statement(self, name: bytes, statement: Statement) -> None:
        try:
            self._pg.send_prepare(name, statement.text)
            self._result()
        except psycopg.OperationalError as error:
            raise ConnectionLost(_reason(error), sent=False) from error
        except ConnectionLost as lost:  # to prepare is not to do
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
                    statement.text, values, None, statement.formats or None
                )
            sent = True
            return self._result()
        except psycopg.OperationalError as error:
            raise ConnectionLost(_reason(error), sent=sent) from error

    def _run_in_libpq(
        self, name: bytes, statement: Statement, values: Sequence[Value]
    ) -> PGresult:
        pg, formats = self._pg, statement.formats or None
        self._busy_since = self._began
        try:
            if name:
                # None is null here too, though not by its annotation.
                result = pg.exec_prepared(name, values, formats)  # type: ignore[arg-type]
            else:
                result = pg.exec_params(statement.text, values, None, formats)
        except psycopg.OperationalError as error:
            raise ConnectionLost(_reason(error), sent=True) from error
        finally:
            self._busy_since = 0.0
        if result.status in _GOOD:
            return result
        if self._gave_up:
            raise ConnectionLost(self._no_answer, sent=True)
        raise self._refused(result, pg.error_message)

    def _refused(self, result: PGresult, said: bytes) -> Exception:
        """What an error means: that the server refuses, or that the connection is lost.

        Args:
            result: the error.
            said: all that libpq has to tell. Where it waited by itself, the result has
                only the last part of that, without the SQLSTATE of the server's words.
        """
        refusal = refusal_of(result, time.monotonic() - self._began)
        if self._pg.status == ConnStatus.OK and not refusal.may_be_a_poolers(
            pooled=self._pooled
        ):
            return refusal
        # A pooler may keep a session open for which it has spoken; what that session
        # answers next is the answer to something else.
        self.is_retired = True
        code = refusal.code or _code_of(said)
        reason = refusal.message if refusal.code else _one_line(_text(said))
        return ConnectionLost(reason, sent=self._pooled or not is_not_done(code))

    def give_up_after(self, patience: float) -> None:
        """Hang up if libpq has been waiting for longer; called by another thread.

        Args:
            patience: seconds.
        """
        since = self._busy_since
        if not since or time.monotonic() - since < patience:
            return
        with contextlib.suppress(psycopg.Error):
            self.connection.cancel_safe(timeout=1.0)
        with contextlib.suppress(OSError, psycopg.Error):
            line = socket.socket(fileno=os.dup(self._pg.socket))
            with contextlib.closing(line):
                if self._busy_since == since:  # still the same statement
                    self._gave_up = True
                    line.shutdown(socket.SHUT_RDWR)

    @property
    def _no_answer(self) -> str:
        return f"no answer within {self._patience:g} s"

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
        raise self._refused(result, result.error_message)

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
        raise psycopg.OperationalError(self._no_answer)

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


def _code_of(said: bytes) -> str:
    """The SQLSTATE with which a server ended a session, by its words; empty if unknown.

    libpq leaves SQLSTATEs out of its text. What is not English is not known, and then
    the outcome is not either.
    """
    return next(
        (
            code
            for words, code in _LAST_WORDS
            if re.search(
                rb"^FATAL:  terminating connection due to " + words + rb"\s*$",
                said,
                re.MULTILINE,
            )
        ),
        "",
    )


def _reason(error: BaseException) -> str:
    return _one_line(str(error)) or type(error).__name__


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines()]
    told = itertools.takewhile(lambda line: not _WHERE.match(line), lines)
    return "; ".join(line for line in told if line)


def _text(message: bytes | str) -> str:
    return message if isinstance(message, str) else message.decode(errors="replace")
