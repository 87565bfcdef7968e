"""Errors of the server: each SQLSTATE is mapped to an error of the library here.

Temporary (08, 40, 53, 55P03, 57, 58 and unknown codes): ``StoreUnavailable``, "try
again". Permanent (0A, 22, 23, 25006, 28, 3D, 3F, 42, 54): the error says what to
correct.
"""

from __future__ import annotations

import re
from typing import Final

from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult

from pend_storage._shown import cut
from pend_storage.errors import (
    ChangesExpired,
    ConfigError,
    InvalidRecord,
    PendStorageError,
    SchemaOutOfDate,
    StaleEpoch,
    StoreUnavailable,
)

__all__ = [
    "POOLER_ADVICE",
    "READ_ONLY",
    "ConnectionLost",
    "ServerMisconfigured",
    "ServerRefusal",
    "parse_refusal",
    "proves_not_executed",
    "raise_stale",
]

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_RETRYABLE: Final = frozenset({"40001", "40P01"})
_LOCK_TIMEOUT: Final = "55P03"
_CANCELLED: Final = "57014"
_READ_ONLY: Final = "25006"
_VIOLATIONS: Final = frozenset({"23505", "23503"})
_VALUES: Final = frozenset({"22", "23", "54"})
_SCHEMA: Final = frozenset({"42P01", "42703", "42883", "3F000", "42804"})
_SESSION_BOUND: Final = frozenset({_READ_ONLY, "0A000", "26000", "42P05"})
"""Codes that another connection may not return: a demoted server, a plan whose result
type changed, a prepared statement that a pooler left on another session.
"""
_MISCONFIGURED: Final = frozenset({"28", "3D"})
_STALE: Final = "PEND1"
_EXPIRED: Final = "PEND2"
_ENTANGLED: Final = "PEND3"
"""Raised by ``pend_commit``: batches of one call depend on each other."""
_OUTDATED: Final = "PEND4"
"""Raised where a program with a former schema writes."""
_SPLITTABLE: Final = frozenset({_ENTANGLED, "53200"})  # the other one: too many locks
_SHORT_WAIT: Final = 5.0
"""Seconds; a lock that was waited for longer than this is not retried at once."""

_MAX_MESSAGE: Final = 500
"""Characters kept of a server's message, which may cite a value."""

_NOT_EXECUTED: Final = frozenset({"57P01", "57P03", "53300", "25P03", "25P04", "57P05"})
_NOT_EXECUTED_CLASSES: Final = frozenset({"28", "3D"})
_POOLER_CODES: Final = frozenset({"57P", "58", "XX", "533"})
_FATAL: Final = frozenset({b"FATAL", b"PANIC"})
_SHARED_SESSION: Final = "A pooler shares the session between transactions: "
_CHANGED_BY_HAND: Final = (
    "The server refuses a statement of the library, and will refuse it again: run "
    "migrate() (pend-storage db migrate), and undo what was changed by hand in its tables "
    "and functions"
)
POOLER_ADVICE: Final = 'set pooler = "transaction" (postgres.pooler in pend.toml)'
_ADVICE: Final = {
    "26000": _SHARED_SESSION + POOLER_ADVICE,
    "42P05": _SHARED_SESSION + POOLER_ADVICE,
    "42501": (
        "Grant the user what is missing, or use another one. EXECUTE on the functions and "
        "the lock table are granted by migrate(), run by their owner, to each role that "
        "holds the tables"
    ),
    "0A": _CHANGED_BY_HAND,
    "3F": _CHANGED_BY_HAND,
    "42": _CHANGED_BY_HAND,
}
"""Remedy by SQLSTATE or class, where a retry does not help."""


def proves_not_executed(code: str) -> bool:
    """Return whether the SQLSTATE that ended a session proves that nothing was executed.

    The server sends these before a session begins, or when it terminates one outside of
    a commit. 57P02 is not among them: a crashing server sends it in the middle of
    anything. Nor is an absent code, or 08P01, which PgBouncer uses for all its own
    messages.
    """
    return code in _NOT_EXECUTED or code[:2] in _NOT_EXECUTED_CLASSES


class ConnectionLost(Exception):
    """The connection broke, or the server did not answer in time."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        self.reason = reason
        self.sent = sent
        """Whether the server may have begun to execute the statement."""
        super().__init__(reason)


class ServerMisconfigured(ConfigError, StoreUnavailable):
    """The server refuses until its configuration is corrected; nothing was changed.

    Both a wrong configuration and an unavailable store: a pair continues on its other
    store, and a command exits as after any wrong configuration.
    """

    def __init__(self, message: str, *, store: str) -> None:
        StoreUnavailable.__init__(self, message, store=store)
        self.args = (f"{store}: {message}",)


class ServerRefusal(Exception):
    """The server answered with an error; the connection remains usable."""

    def __init__(
        self,
        code: str,
        message: str,
        constraint: str = "",
        *,
        is_fatal: bool = False,
        waited: float = 0.0,
    ) -> None:
        self.code = code
        self.message = message
        self.constraint = constraint
        self.is_fatal = is_fatal
        """Whether its severity ends the session."""
        self.waited = waited
        """Seconds until the answer."""
        super().__init__(f"{message} ({code})")

    def may_be_from_pooler(self, *, pooled: bool) -> bool:
        """Return whether a pooler or a proxy may have sent it in its own name.

        Then it proves nothing about what the server did. A server does not leave a
        session open that it has terminated.

        Args:
            pooled: whether a pooler is known to be in between.
        """
        if self.is_fatal or self.code[:2] == "08":
            return True
        return pooled and bool({self.code[:2], self.code[:3]} & _POOLER_CODES)

    @property
    def is_transient(self) -> bool:
        """True if the same statement may succeed if it is retried at once."""
        if self.code == _LOCK_TIMEOUT:
            return self.waited < _SHORT_WAIT
        return self.code in _RETRYABLE

    @property
    def is_session_bound(self) -> bool:
        """True if the statement may succeed on a new connection."""
        return self.code in _SESSION_BOUND

    @property
    def is_violation(self) -> bool:
        """True if a unique or a foreign key constraint was violated."""
        return self.code in _VIOLATIONS

    @property
    def is_splittable(self) -> bool:
        """True if a part of the call may succeed where the whole did not."""
        return self.code[:2] in _VALUES or self.code in _SPLITTABLE

    def public(self, store: str, collection: str = "") -> PendStorageError:
        """Map the refusal to an error of the public tree.

        Args:
            store: name of the store in error messages.
            collection: the collection written, if it is only one.
        """
        if self.code == _STALE:
            return _stale(self.message, store)
        if self.code == _EXPIRED:
            after, oldest = map(int, self.message.split()[1:])
            return ChangesExpired(store=store, after=after, oldest=oldest)
        if self.code == _OUTDATED:
            return SchemaOutOfDate(
                f"{store}: the schema of the database was changed while this program ran "
                f"({self.message}). Deploy the program that fits, or leave this to the "
                "programs that have the newer schema; nothing was changed."
            )
        if self.code[:2] in _VALUES:
            place = collection or "the batch"
            named = f"; constraint {self.constraint}" if self.constraint else ""
            return InvalidRecord(
                f"PostgreSQL refuses it: {self}{named}", collection=place
            )
        return self._permanent(store) or StoreUnavailable(self._reason(), store=store)

    def _permanent(self, store: str) -> PendStorageError | None:
        """Error for a permanent refusal; None for a temporary one."""
        if self.code == _READ_ONLY:
            return ServerMisconfigured(READ_ONLY.format(self), store=store)
        if self.code in _SCHEMA:
            return SchemaOutOfDate(
                f"{store}: {self.message}. The database does not have the tables of "
                "this schema, or they are in another schema of the database: run migrate() "
                "(pend-storage db migrate), or correct postgres.schema."
            )
        if self.code[:2] in _MISCONFIGURED:
            return ServerMisconfigured(
                f"{self}. Correct the user, the password or the database in the URL, "
                "or what the server permits them.",
                store=store,
            )
        advice = _ADVICE.get(self.code) or _ADVICE.get(self.code[:2])
        return None if advice is None else ConfigError(f"{store}: {self}. {advice}.")

    def _reason(self) -> str:
        """Reason why the statement failed now, with the setting to check."""
        if self.code == _LOCK_TIMEOUT:
            return f"a lock was not to be had within lock_timeout ({self})"
        if self.code != _CANCELLED:
            return str(self)
        if "user request" in self.message:
            return f"the statement was cancelled by an administrator ({self})"
        if "statement timeout" in self.message:
            return "the statement took longer than statement_timeout allows"
        # A server of another language distinguishes them in words unknown here.
        return f"the statement was cancelled, by statement_timeout or by hand ({self})"


READ_ONLY: Final = (
    "the server is read-only (a standby, or default_transaction_read_only?): {}. Name the "
    "primary in the URL, or all hosts and target_session_attrs=read-write; nothing was "
    "changed."
)
"""Message where a new connection leads to a read-only server as well."""


def parse_refusal(result: PGresult, waited: float = 0.0) -> ServerRefusal:
    """Decode the error that a result carries.

    Args:
        result: of a statement.
        waited: seconds until it arrived.
    """

    def text(field: DiagnosticField) -> str:
        value = result.error_field(field)
        return "" if value is None else value.decode(errors="replace")

    if result.status != ExecStatus.FATAL_ERROR:
        return ServerRefusal("XX000", f"unexpected answer {result.status}")
    severity = result.error_field(DiagnosticField.SEVERITY_NONLOCALIZED)
    return ServerRefusal(
        text(DiagnosticField.SQLSTATE),
        cut(text(DiagnosticField.MESSAGE_PRIMARY), _MAX_MESSAGE),
        text(DiagnosticField.CONSTRAINT_NAME),
        is_fatal=severity in _FATAL,
        waited=waited,
    )


def raise_stale(answer: str, store: str) -> None:
    """Raise ``StaleEpoch`` if a function answered ``stale <role> <epoch>``."""
    if answer.startswith("stale "):
        raise _stale(answer, store)


def _stale(message: str, store: str) -> PendStorageError:
    found = re.fullmatch(r"stale (\w+) (-?\d+)", message)
    if found is None:
        return StoreUnavailable(message, store=store)
    return StaleEpoch(store=store, role=found[1], epoch=int(found[2]))
