"""Status of the database of an environment, and facts about its server."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, LiteralString

import psycopg

from pend_storage.config import PostgresSettings, Settings
from pend_storage.dualwrite._readiness import count_waiting
from pend_storage.errors import SchemaOutOfDate
from pend_storage.factory import ENVIRONMENT_META, open_passive
from pend_storage.operations.facts import BackfillState, backfill_of_database
from pend_storage.phases import ROLE_META
from pend_storage.query import And
from pend_storage.stores.postgres import inspection

__all__ = ["DatabaseStatus", "ServerFacts", "database_status", "server_facts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """Version, size, clock and settings of a database server."""

    version: str
    major: int
    encoding: str
    read_only: bool
    """Whether the server refuses writes."""
    database: str
    user: str
    size: int
    """Bytes on disk."""
    latency: float
    """Seconds of a round trip, the shortest of five."""
    clock_ahead: float
    """Seconds by which its clock is ahead of this machine's, give or take the latency."""
    pooled: bool
    """Whether there is a connection pooler before the server: it invents process ids."""
    max_connections: int
    encryption: str | None = None
    """TLS version and cipher of the connection; None: it is not encrypted."""
    is_superuser: bool = False
    is_owner: bool = False
    """Whether the user owns the store's tables, or is a member of the role that does."""
    creators: tuple[tuple[str, str], ...] = ()
    """Schemas on ``search_path``, with other roles that may create objects there."""
    has_trigrams: bool
    """Whether the extension ``pg_trgm``, for searches of substrings, is available."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseStatus:
    """Role, schema, backfill and records of a database."""

    url: str
    """URL of the database, without its password."""
    server: ServerFacts
    schema_current: bool
    schema_problem: str | None
    """Reason why the schema is not current."""
    environment: str | None = None
    role: str | None = None
    """None: the database stands alone."""
    epoch: int | None = None
    backfill: BackfillState | None = None
    """None where the schema is not current, or where the JSON store is needed for the
    answer and cannot be opened."""
    records: Mapping[str, int]
    """Number of records by collection; empty where the schema is not current."""
    waiting: int | None = None
    """Quarantined records that need a decision; None where the schema is not current."""

    @property
    def ready(self) -> bool:
        """True where the schema is current and the backfill is complete."""
        return self.schema_current and self.backfill == "complete"


def database_status(settings: Settings) -> DatabaseStatus:
    """Probe the database of an environment; changes nothing.

    The state of the backfill is probed in the JSON store as well: the meta entry in the
    database was written before a gap in the change log could arise.

    Raises:
        ConfigError: no database is configured, or the user may not read its tables.
        StoreUnavailable: the database cannot be reached.
    """
    wanted = settings.require_postgres()
    facts = server_facts(wanted)
    with open_passive(settings) as environment:
        try:
            store = environment.require("postgres")
        except SchemaOutOfDate as error:
            return DatabaseStatus(
                url=wanted.shown_url,
                server=facts,
                schema_current=False,
                schema_problem=str(error),
                records={},
            )
        state = None if store.meta(ROLE_META) is None else store.role()
        owner = store.meta(ENVIRONMENT_META)
        return DatabaseStatus(
            url=wanted.shown_url,
            server=facts,
            schema_current=True,
            schema_problem=None,
            environment=None if owner is None else str(owner),
            role=None if state is None else state.role.value,
            epoch=None if state is None else state.epoch,
            backfill=backfill_of_database(environment),
            records={s.name: store.count(s.name, And(())) for s in store.schema},
            waiting=count_waiting(store),
        )


def server_facts(settings: PostgresSettings) -> ServerFacts:
    """Probe a database server over a connection of its own.

    Raises:
        StoreUnavailable: the server cannot be reached, or refuses the user.
        ConfigError: the URL is malformed.
    """
    with inspection(
        settings.full_url,
        connect_timeout=settings.connect_timeout,
        application_name="pend_storage doctor",
    ) as connection:
        return _probe(connection, settings.schema)


_CREATORS: Final[LiteralString] = """
select n.nspname::text, coalesce(r.rolname::text, 'every role')
  from pg_namespace as n
 cross join lateral aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as a
  left join pg_roles as r on r.oid = a.grantee
 where n.nspname = %(schema)s and a.privilege_type = 'CREATE'
   and a.grantee <> n.nspowner and not coalesce(r.rolsuper, false)
   and r.rolname is distinct from current_user
   and a.grantee <> coalesce((select c.relowner from pg_class as c
                               where c.oid = to_regclass(%(log)s)), 0::oid)
    or n.nspname = %(schema)s and a.privilege_type = 'CREATE'
   and a.grantee = 0
 order by 1, 2"""
"""Roles that may create in the schema of the store, without the ones that own the schema or
the store's tables.
"""


def _probe(connection: psycopg.Connection[Any], schema: str) -> ServerFacts:
    names = {"schema": schema, "log": f'"{schema}".changes'}

    def one(query: LiteralString) -> Any:
        row = connection.execute(query, names).fetchone()
        return None if row is None else row[0]

    latency, ahead = math.inf, 0.0
    for _ in range(5):
        started, here = time.monotonic(), datetime.now(UTC)
        there = one("select clock_timestamp()")
        took = time.monotonic() - started
        # The shortest round trip bounds the error of the clock's offset best.
        if took < latency:
            latency, ahead = took, (there - here).total_seconds() - took / 2
    version = connection.info.server_version
    return ServerFacts(
        version=one("show server_version"),
        major=version // 10_000,
        encoding=one("show server_encoding"),
        read_only=one("show transaction_read_only") == "on",
        database=one("select current_database()"),
        user=one("select current_user"),
        size=one("select pg_database_size(current_database())"),
        latency=latency,
        clock_ahead=ahead,
        pooled=one("select pg_backend_pid()") != connection.info.backend_pid,
        max_connections=int(one("show max_connections")),
        encryption=one(
            "select version || ', ' || cipher from pg_stat_ssl "
            "where pid = pg_backend_pid() and ssl"
        ),
        is_superuser=bool(
            one("select rolsuper from pg_roles where rolname = current_user")
        ),
        is_owner=bool(
            one(
                "select pg_has_role(relowner, 'usage') from pg_class "
                "where oid = to_regclass(%(log)s)"
            )
        ),
        creators=tuple(connection.execute(_CREATORS, names).fetchall()),
        has_trigrams=bool(
            one("select count(*) from pg_available_extensions where name = 'pg_trgm'")
        ),
    )
