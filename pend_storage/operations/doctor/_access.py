"""Checks of the access to the database: TLS, roles, schemas, sessions that hold locks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pend_storage.config import PostgresSettings
from pend_storage.operations.database_status import ServerFacts
from pend_storage.operations.doctor._findings import Finding, fail, ok, warn
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._client.lock_waits import lock_holders
from pend_storage.stores.postgres._connection.address import Address

__all__ = ["access_findings", "lock_finding"]

_LONG: Final = 5
"""Seconds for which a transaction may hold a lock of the store."""
_LEAST: Final = (
    "Run: pend-storage db grants. It shows the roles with the least privileges."
)


def access_findings(wanted: PostgresSettings, facts: ServerFacts) -> Iterator[Finding]:
    """Check the encryption of the connection, and who may do what in the database."""
    address = Address.parse(wanted.full_url)
    yield _tls(address, facts)
    yield _role(address, facts)
    for namespace, role in facts.creators:
        yield fail(
            "schemas",
            f"{role} may create objects in the schema {namespace}, which is on search_path: "
            "a function there could run as the application",
            f"Run: revoke create on schema {namespace} from "
            f"{'public' if role == 'every role' else role}",
        )


def _tls(address: Address, facts: ServerFacts) -> Finding:
    used, weakness = facts.encryption, address.weakness
    if address.is_local:
        return ok("tls", f"{used or 'none'}: the connection stays on this machine")
    verify = (
        'Set postgres.tls.mode (sslmode in the URL) to "verify-full", or leave it out.'
    )
    if used is None:
        return warn("tls", "the connection to another machine is not encrypted", verify)
    if weakness is not None:
        return warn("tls", f"{used}, but {weakness}", verify)
    return ok("tls", f"{used}, the server is verified")


def _role(address: Address, facts: ServerFacts) -> Finding:
    if facts.is_superuser:
        message = f"{facts.user} is a superuser"
    elif facts.is_owner:
        message = f"{facts.user} owns the tables"
    else:
        return ok("database role", f"{facts.user} owns nothing")
    if address.is_local:
        return ok("database role", f"{message}; servers need less: db grants shows it")
    return warn("database role", f"{message}, and servers need less", _LEAST)


def lock_finding(store: PostgresStore) -> Finding:
    """Check for sessions that hold a lock of the store for long."""
    held = [h for h in lock_holders(store._client) if (h.seconds or 0) >= _LONG]  # noqa: SLF001
    if not held:
        return ok("locks", "no session holds one for long")
    return warn(
        "locks",
        f"held for long by {', '.join(map(str, held))}",
        "End that session, or wait for its end: select pg_terminate_backend(PROCESS)",
    )
