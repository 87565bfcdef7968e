"""Checks of the database: server, schema, role, backfill."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pend_storage.config import PostgresSettings, Settings
from pend_storage.errors import PendStorageError
from pend_storage.factory import ENVIRONMENT_META, PassiveEnvironment, open_passive
from pend_storage.operations.database_status import ServerFacts, server_facts
from pend_storage.operations.doctor._access import access_findings, lock_finding
from pend_storage.operations.doctor._findings import Finding, fail, ok, warn
from pend_storage.operations.facts import backfill_of_database
from pend_storage.phases import ROLE_META
from pend_storage.store import Store

__all__ = ["database_findings"]

_OLDEST: Final = 15
_ENCODING: Final = "UTF8"
_SKEW: Final = 1.0
"""Seconds between two clocks that make their logs hard to compare."""
_SLOW: Final = 0.05
"""Seconds of a round trip to a server that is too far away."""
_UNFINISHED: Final = {
    "never": "the database lacks what JSON holds",
    "interrupted": "not complete",
}
_RESERVED: Final = 10
"""Connections of the server that the pool should leave to other programs."""


def database_findings(
    settings: Settings, wanted: PostgresSettings
) -> Iterator[Finding]:
    """Check the server, and the schema, role and backfill of the database."""
    try:
        facts = server_facts(wanted)
    except PendStorageError as error:
        yield fail(
            "database",
            str(error),
            "Start the server, or correct postgres.url.",
            error=error,
        )
        return
    yield _connection(wanted, facts)
    yield from _server(wanted, facts)
    yield from access_findings(wanted, facts)
    if facts.major < _OLDEST or facts.encoding != _ENCODING:
        return  # opening the store would fail for the reason that is reported already
    with open_passive(settings) as environment:
        try:
            environment.require("postgres")
        except PendStorageError as error:
            # The error names the remedy: it depends on which of the two schemas is older.
            yield fail("database schema", str(error), error=error)
            return
        store = environment.postgres
        assert store is not None  # noqa: S101 - it was required
        yield ok("database schema", "current")
        yield _environment(store, settings)
        yield _role(store, settings)
        yield _backfill(environment)
        yield lock_finding(store)


def _connection(wanted: PostgresSettings, facts: ServerFacts) -> Finding:
    message = (
        f"{wanted.shown_url}: PostgreSQL {facts.version}, "
        f"{facts.latency * 1000:.1f} ms away"
    )
    if facts.latency > _SLOW:
        return warn("database", message, "Move the program nearer to the server.")
    return ok("database", message)


def _server(wanted: PostgresSettings, facts: ServerFacts) -> Iterator[Finding]:
    if facts.major < _OLDEST:
        yield fail(
            "server version",
            f"PostgreSQL {facts.version} is too old",
            f"Upgrade the server to {_OLDEST} or newer.",
        )
    if facts.encoding != _ENCODING:
        yield fail(
            "encoding",
            f"the database is encoded in {facts.encoding}",
            "Make one with: create database ... encoding 'UTF8' template template0",
        )
    if facts.read_only:
        yield fail(
            "read-only",
            "the server takes no writes: a standby, or default_transaction_read_only",
            "Name the primary in postgres.url, or all hosts and "
            "target_session_attrs=read-write.",
        )
    if not facts.has_trigrams:
        yield fail(
            "extension pg_trgm",
            "the server does not have it",
            "Install the server's contrib package.",
        )
    yield _pooler(wanted, facts)
    yield _clock(facts)
    if wanted.pool + _RESERVED > facts.max_connections:
        yield warn(
            "connections",
            f"a pool of {wanted.pool}, of {facts.max_connections} that the server allows",
            "Make postgres.pool smaller, or raise max_connections.",
        )


def _pooler(wanted: PostgresSettings, facts: ServerFacts) -> Finding:
    if facts.pooled and wanted.pooler is None:
        return warn(
            "pooler",
            "a connection pooler stands between here and the server",
            'If it shares connections by transaction, set postgres.pooler = "transaction".',
        )
    if not facts.pooled and wanted.pooler is not None:
        return warn(
            "pooler",
            f"postgres.pooler is {wanted.pooler!r}, and there is no pooler",
            "Leave the setting out: without it, calls are quicker.",
        )
    return ok("pooler", "none" if wanted.pooler is None else wanted.pooler)


def _clock(facts: ServerFacts) -> Finding:
    ahead = facts.clock_ahead
    message = f"the server's is {abs(ahead):.2f} s {'ahead' if ahead > 0 else 'behind'}"
    if abs(ahead) > _SKEW + facts.latency:
        return warn("clock", message, "Have both machines keep time by NTP.")
    return ok("clock", message)


def _environment(store: Store, settings: Settings) -> Finding:
    owner = store.meta(ENVIRONMENT_META)
    if owner is None:
        return warn(
            "environment",
            "the database belongs to no environment yet",
            "Run: pend-storage db seed",
        )
    if owner != settings.environment:
        return fail(
            "environment",
            f"the database belongs to {owner!r}, not to {settings.environment!r}",
            "Correct postgres.url, or choose that environment by --env.",
        )
    return ok("environment", str(owner))


def _role(store: Store, settings: Settings) -> Finding:
    state = store.role()
    if store.meta(ROLE_META) is None:
        return ok("role", "none: the database stands alone")
    message = f"{state.role.value} at epoch {state.epoch}"
    wanted = settings.phase.postgres_role
    if state.role is not wanted and settings.json is None:
        return warn(
            "role",
            f"{message}; the phase {settings.phase.value} wants {wanted.value}",
            "Correct the phase in the configuration.",
        )
    return ok("role", message)


def _backfill(environment: PassiveEnvironment) -> Finding:
    state = backfill_of_database(environment)
    if state == "complete":
        return ok("backfill", "complete")
    if state is None:
        return warn(
            "backfill",
            "not known: the JSON directory cannot be opened",
            "Correct what the checks of the JSON directory name.",
        )
    message = _UNFINISHED[state]
    return warn("backfill", message, "Run: pend-storage migrate json")
