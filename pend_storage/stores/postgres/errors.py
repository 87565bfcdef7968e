"""What the server and the driver say, in the words of the library. The only such place."""

from __future__ import annotations

import re
from typing import Final

from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult

from pend_storage.errors import (
    ChangesExpired,
    ConfigError,
    InvalidRecord,
    PendStorageError,
    SchemaOutOfDate,
    StaleEpoch,
    StoreUnavailable,
)

__all__ = ["ConnectionLost", "ServerRefusal", "raise_stale", "refusal_of"]

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_REPEAT: Final = frozenset({"40001", "40P01", "55P03"})
_VIOLATIONS: Final = frozenset({"23505", "23503"})
_VALUES: Final = frozenset({"22", "23", "54"})
_SCHEMA: Final = frozenset({"42P01", "42703", "42883", "3F000", "42804"})
_STALE: Final = "PEND1"
_EXPIRED: Final = "PEND2"
_ENTANGLED: Final = "PEND3"
"""What was asked in one call has something to do with each other."""
_IN_PARTS: Final = frozenset({_ENTANGLED, "53200"})  # the other one: too many locks


class ConnectionLost(Exception):
    """The connection died, or the server did not answer in time."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        self.reason = reason
        self.sent = sent
        """Whether the server may have begun to work on what was asked."""
        super().__init__(reason)


class ServerRefusal(Exception):
    """The server answered with an error; the connection is as good as before."""

    def __init__(self, code: str, message: str, constraint: str = "") -> None:
        self.code = code
        self.message = message
        self.constraint = constraint
        super().__init__(f"{message} ({code})")

    @property
    def is_transient(self) -> bool:
        """Whether the same thing may go through if it is done again."""
        return self.code in _REPEAT

    @property
    def is_violation(self) -> bool:
        """Whether a unique value was taken or a reference would lead nowhere."""
        return self.code in _VIOLATIONS

    @property
    def is_divisible(self) -> bool:
        """Whether a part of what was asked may go through where the whole did not."""
        return self.code[:2] in _VALUES or self.code in _IN_PARTS

    def public(self, store: str, collection: str = "") -> PendStorageError:
        """The error that a caller of the store gets to see.

        Args:
            store: how errors call the store.
            collection: the collection at work, if it is only one.
        """
        if self.code == _STALE:
            return _stale(self.message, store)
        if self.code == _EXPIRED:
            after, oldest = map(int, self.message.split()[1:])
            return ChangesExpired(store=store, after=after, oldest=oldest)
        if self.code in _SCHEMA:
            return SchemaOutOfDate(
                f"{store}: {self.message}. The database does not have the tables of "
                "this schema: run migrate() (pend-storage db migrate)."
            )
        if self.code[:2] in _VALUES:
            place = collection or "the batch"
            return InvalidRecord(f"PostgreSQL refuses it: {self}", collection=place)
        if self.code == "42501":
            return ConfigError(
                f"{store}: {self.message}. Grant the user what is missing, or use "
                "another one."
            )
        reason = str(self)
        if self.code == "57014":
            reason = "the statement took longer than statement_timeout allows"
        return StoreUnavailable(reason, store=store)


def refusal_of(result: PGresult) -> ServerRefusal:
    """The error that a result carries."""

    def text(field: DiagnosticField) -> str:
        value = result.error_field(field)
        return "" if value is None else value.decode(errors="replace")

    if result.status != ExecStatus.FATAL_ERROR:
        return ServerRefusal("XX000", f"unexpected answer {result.status}")
    return ServerRefusal(
        text(DiagnosticField.SQLSTATE),
        text(DiagnosticField.MESSAGE_PRIMARY),
        text(DiagnosticField.CONSTRAINT_NAME),
    )


def raise_stale(answer: str, store: str) -> None:
    """Raise what a function answered if it was ``stale <role> <epoch>``."""
    if answer.startswith("stale "):
        raise _stale(answer, store)


def _stale(message: str, store: str) -> PendStorageError:
    found = re.fullmatch(r"stale (\w+) (-?\d+)", message)
    if found is None:
        return StoreUnavailable(message, store=store)
    return StaleEpoch(store=store, role=found[1], epoch=int(found[2]))
