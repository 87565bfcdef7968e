"""Why a connection was refused, and what to do about it.

libpq gives no SQLSTATE for a connection that was never made, only words: those of the
server in its own language, and its own in English. What is not recognised may heal by
itself.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import psycopg

from pend_storage.errors import ConfigError, PendStorageError, StoreUnavailable
from pend_storage.stores.postgres._connection.server_errors import POOLER_ADVICE

__all__ = ["connect_error", "find_advice"]


class RefusalAdvice(NamedTuple):
    """What to do about a refusal that does not heal by itself."""

    sentence: str
    is_address_fault: bool
    """Whether the address itself is wrong, wherever it leads; else it is something that
    may be put right on the server."""


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
    """What to do about it; None where it may heal, or is not known."""
    text = str(error)
    return next((advice for known, advice in _KNOWN if known.search(text)), None)


def connect_error(
    error: psycopg.Error, store: str, *, secret: str | None = None
) -> PendStorageError:
    """The public error for a connection that was not made.

    Args:
        error: of the driver.
        store: how errors call the store.
        secret: the password, which must not be shown.
    """
    text, advice = _describe(error), find_advice(error)
    if secret:
        text = text.replace(secret, "********")
    if advice is None:
        return StoreUnavailable(text, store=store)
    if advice.is_address_fault:
        return ConfigError(f"{store}: {text}.")
    # Somebody may put it right while programs run: a pair goes on without it.
    refused = StoreUnavailable(text, store=store)
    refused.args = (f"{store}: {text}. Nothing was changed.",)
    return refused


def _describe(error: psycopg.Error) -> str:
    """Why there is no connection, in one line, and what to do where that is known."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = "; ".join(lines) or type(error).__name__
    advice = find_advice(error)
    if advice is None:
        return text
    return f"{text}. {advice.sentence[:1].upper()}{advice.sentence[1:]}"
