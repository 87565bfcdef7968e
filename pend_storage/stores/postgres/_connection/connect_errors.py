"""Refused connections: messages mapped to advice.

libpq has no SQLSTATE for a connection that was never made, only text: the server's in
its own language, and libpq's in English. An unrecognised message counts as temporary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

import psycopg

from pend_storage._secrets import hidden
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
            (
                "turn TLS on in the server; or, on a network that you trust, set "
                'postgres.tls.mode (sslmode in the URL) to "disable"'
            ),
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
            r"certificate verify failed|certificate is not trusted",
            (
                "no authority that is trusted here has signed the server's certificate: set "
                "postgres.tls.root_certificate (sslrootcert in the URL) to the file of the "
                "authority that has"
            ),
            False,
        ),
        (
            r"server certificate for .* does not match host name",
            (
                "name the host as the server's certificate does, or have a certificate made "
                "for this name"
            ),
            False,
        ),
        (
            r"channel binding|auth(?:entication)? method .*(?:requirement|required)",
            (
                "the server does not offer what postgres.tls.channel_binding or "
                "postgres.tls.require_auth ask for: use scram-sha-256 in its pg_hba.conf, or "
                "correct these settings"
            ),
            False,
        ),
        (
            r'root certificate file ".*" does not exist',
            (
                "the server is on another machine, so it is verified by default: set "
                "postgres.tls.root_certificate to the file of its authority, or to "
                '"system" for the authorities of this machine (libpq 16 or newer)'
            ),
            True,
        ),
        (
            r'weak sslmode ".*" may not be used with sslrootcert=system',
            (
                'set postgres.tls.mode to "verify-full", or name a file in '
                "postgres.tls.root_certificate"
            ),
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
    error: psycopg.Error, store: str, *, secrets: Iterable[str]
) -> PendStorageError:
    """Map a failed connection to a public error.

    Args:
        error: of the driver.
        store: name of the store in error messages.
        secrets: values of the settings that the driver's text must not show.
    """
    advice = find_advice(error)
    text = _one_line(hidden(str(error), secrets)) or type(error).__name__
    if advice is not None:
        text += f". {advice.sentence[:1].upper()}{advice.sentence[1:]}"
    if advice is None:
        return StoreUnavailable(text, store=store)
    if advice.is_address_fault:
        return ConfigError(f"{store}: {text}.")
    # It may be corrected while programs run: a pair continues without this store.
    refused = StoreUnavailable(text, store=store)
    refused.args = (f"{store}: {text}. Nothing was changed.",)
    return refused


def _one_line(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())
