"""Refused connections: messages mapped to advice.

libpq has no SQLSTATE for a connection that was never made, only text: the server's in
its own language, and libpq's in English. An unrecognised message counts as temporary.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import psycopg

from pend_storage.errors import ConfigError, PendStorageError, StoreUnavailable
from pend_storage.stores.postgres._connection.server_errors import POOLER_ADVICE

__all__ = ["connect_error", "find_advice"]


class RefusalAdvice(NamedTuple):
    """Remedy for a refusal that does not pass by itself."""

    sentence: str
    is_address_fault: bool
    """Whether the address itself is wrong, wherever it leads; otherwise the fault can
    be corrected on the server.
    """


_KNOWN: Final = tuple(
    (re.compile(pattern), RefusalAdvice(sentence, is_address_fault))
    for pattern, sentence, is_address_fault in (
        (
            'FATAL: +database ".*" does not exist',
            "create the database, or correct its name",
            False,
        ),
        (
            'role ".*" does not exist|password authentication failed|no password supplied',
            "correct the user and the password",
            False,
        ),
        (
            "no pg_hba.conf entry",
            "have the server's pg_hba.conf let this user in from here",
            False,
        ),
        (
            "permission denied for database",
            "grant the user connect on the database",
            False,
        ),
        (
            "server does not support SSL",
            "turn TLS on in the server, or do not ask for it",
            False,
        ),
        (
            "unsupported startup parameter",
            f"it is a pooler that shares sessions (PgBouncer): {POOLER_ADVICE}",
            True,
        ),
        (
            r'definition of service ".*" not found|service file ".*" not found',
            "correct service, or the file that defines it (PGSERVICEFILE)",
            True,
        ),
        (
            r"invalid (\S+ )?(port number|integer value|value)|bad value for ",
            "correct that setting in the URL",
            True,
        ),
        (
            r'(certificate|private key) file ".*"',
            "correct the paths of postgres.tls",
            True,
        ),
    )
)


def find_advice(error: BaseException) -> RefusalAdvice | None:
    """Find the remedy for a connection error; None if unknown or temporary."""
    text = str(error)
    return next((advice for known, advice in _KNOWN if known.search(text)), None)


def connect_error(
    error: psycopg.Error, store: str, *, secret: str | None = None
) -> PendStorageError:
    """Map a failed connection to a public error.

    Args:
        error: of the driver.
        store: name of the store in error messages.
        secret: the password, which is masked.
    """
    text, advice = _describe(error), find_advice(error)
    if secret:
        text = text.replace(secret, "********")
    if advice is None:
        return StoreUnavailable(text, store=store)
    if advice.is_address_fault:
        return ConfigError(f"{store}: {text}.")
    # It may be corrected while programs run: a pair continues without this store.
    refused = StoreUnavailable(text, store=store)
    refused.args = (f"{store}: {text}. Nothing was changed.",)
    return refused


def _describe(error: psycopg.Error) -> str:
    """Cause in one line, with the remedy where it is known."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = "; ".join(lines) or type(error).__name__
    advice = find_advice(error)
    if advice is None:
        return text
    return f"{text}. {advice.sentence[:1].upper()}{advice.sentence[1:]}"
