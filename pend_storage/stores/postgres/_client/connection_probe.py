"""Connection probe: identity and notes of a database, in one round trip."""

from __future__ import annotations

from typing import Final

from pend_storage.codec import dump_json
from pend_storage.stores.postgres._connection.connection import (
    LibpqConnection,
    Statement,
)
from pend_storage.stores.postgres._connection.own_names import EQ, MEMBER_TEXT, OWN
from pend_storage.stores.postgres._connection.server_errors import ServerRefusal
from pend_storage.stores.postgres._connection.server_facts import (
    ProbeResult,
    ServerFacts,
)
from pend_storage.stores.postgres._queries import statements

__all__ = ["INCARNATION_META", "SCHEMA_META", "ensure_numbering", "probe_connection"]

SCHEMA_META: Final = "postgres.schema"
"""Meta entry with the revision that ``migrate()`` has made."""
INCARNATION_META: Final = "postgres.home"
"""Meta entry with the incarnation on which numbers were last assigned."""
_RENUMBER: Final = statements.RENUMBER
"""Raises the numbers of a database that was restored into another server."""
_SET_INCARNATION: Final = Statement(
    f"insert into {OWN}store_meta as m (name, value) "
    f"values ('{INCARNATION_META}', $1::jsonb) "
    "on conflict (name) do update set value = excluded.value "
    "where m.value operator(pg_catalog.<>) excluded.value".encode()
)
_SYSTEM: Final = (
    "(select c.system_identifier::text from pg_catalog.pg_control_system() as c)"
)
# Not the timeline of pg_control_checkpoint(), which stays behind after a promotion until the
# next checkpoint. A standby has no log of its own to insert into.
_TIMELINE: Final = """(select case when pg_catalog.pg_is_in_recovery()
  then coalesce((select r.received_tli from pg_catalog.pg_stat_wal_receiver as r),
                (select c.timeline_id from pg_catalog.pg_control_checkpoint() as c))
  else pg_catalog.concat('x', pg_catalog.left(
    pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8))::bit(32)::int
  end::text)"""
_UNKNOWN: Final = "null"
_REFUSED: Final = frozenset({"42501", "0A000", "42883", "42P01"})
"""SQLSTATEs of a managed service that reserves a function to itself."""
_LOCK_TIMEOUT: Final = "55P03"
_MAY_NOT_WRITE: Final = frozenset({"25006", "42501"})


def _statement(system: str, timeline: str) -> Statement:
    text = f"""select {system}, {timeline},
  (select d.oid::text from pg_catalog.pg_database as d
    where d.datname {EQ} pg_catalog.current_database()),
  '{OWN}changes'::pg_catalog.regclass::pg_catalog.oid::text,
  pg_catalog.current_setting('server_encoding'::text),
  pg_catalog.current_setting('transaction_isolation'::text),
  pg_catalog.current_setting('transaction_read_only'::text) {EQ} 'on'::text,
  pg_catalog.pg_is_in_recovery(),
  (select m.value from {OWN}store_meta as m where m.name {EQ} '{SCHEMA_META}'::text),
  (select m.value {MEMBER_TEXT} '{{}}'::text[] from {OWN}store_meta as m
    where m.name {EQ} '{INCARNATION_META}'::text)"""
    return Statement(text.encode())


_PROBE: Final = _statement(_SYSTEM, _TIMELINE)
_PROBE_RESTRICTED: Final = _statement(_UNKNOWN, _UNKNOWN)
_RESTRICTED_PARTS: Final = tuple(
    Statement(f"select {p}".encode()) for p in (_SYSTEM, _TIMELINE)
)


def probe_connection(connection: LibpqConnection) -> ProbeResult:
    """Probe the database behind a connection: one statement, one round trip.

    Raises:
        ServerRefusal: the server refuses; ``42P01`` where nothing was migrated.
        ConnectionLost: it did not answer.
    """
    try:
        result = connection.execute(_PROBE)
        system, timeline = (_text(result.get_value(0, n)) for n in (0, 1))
    except ServerRefusal as refusal:
        if refusal.code not in _REFUSED:
            raise
        result = connection.execute(
            _PROBE_RESTRICTED
        )  # raises unless those functions are the reason
        system, timeline = (
            _part(connection, statement) for statement in _RESTRICTED_PARTS
        )
    found = [result.get_value(0, column) for column in range(10)]
    facts = ServerFacts(
        system=system,
        timeline=timeline,
        database=_text(found[2]),
        changes=_text(found[3]),
        encoding=_text(found[4]),
        isolation=_text(found[5]),
        is_read_only=found[6] == b"t",
        is_standby=found[7] == b"t",
    )
    return ProbeResult(facts, found[8], None if found[9] is None else _text(found[9]))


def _part(connection: LibpqConnection, statement: Statement) -> str:
    try:
        return _text(connection.execute(statement).get_value(0, 0))
    except ServerRefusal as refusal:
        if refusal.code not in _REFUSED:
            raise
        return ""


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode()


def ensure_numbering(connection: LibpqConnection, found: ProbeResult) -> None:
    """Raise the numbers of a database that moved to another server; idempotent.

    A dump that was restored elsewhere, or a standby that was promoted, holds numbers
    that the transaction ids of its new server may not have reached.

    Args:
        connection: to the database, outside of a transaction.
        found: by probing the same connection.

    Raises:
        ServerRefusal: the server refuses for another reason than missing privileges.
        ConnectionLost: it did not answer.
    """
    here = found.facts.incarnation
    if found.facts.is_read_only or found.numbered_on == here:
        return
    try:
        with connection.transaction():
            connection.execute(_RENUMBER)
            connection.execute(_SET_INCARNATION, (dump_json(here),))
    except ServerRefusal as refusal:
        if refusal.code == _LOCK_TIMEOUT and found.numbered_on is None:
            return  # never stored before: the database has not moved
        if refusal.code not in _MAY_NOT_WRITE:
            raise  # without write access no number is assigned either
