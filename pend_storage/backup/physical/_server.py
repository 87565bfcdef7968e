"""Server facts that physical backups depend on, and whether it allows them at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pend_storage._extras import with_packages
from pend_storage._secrets import hidden
from pend_storage._shown import one_line
from pend_storage.errors import ConfigError, StoreUnavailable

if TYPE_CHECKING:
    import psycopg

__all__ = [
    "LOGICAL_IS_COMPLETE",
    "Server",
    "connected",
    "look_at",
    "require_replication",
]

LOGICAL_IS_COMPLETE: Final = (
    "A managed server may never grant it, and nothing is lost: `backup create` and `backup "
    "archive` without a kind need only the application's own rights, and bring back every "
    "commit"
)
_INCREMENTAL_SINCE: Final = 17
_STANDBY_SETTINGS: Final = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
)
"""Settings that a server which replays the log must have at least as high."""
_FACTS: Final = """
select pg_catalog.current_setting('server_version_num')::int,
       pg_catalog.pg_is_in_recovery(),
       (select c.system_identifier::text from pg_catalog.pg_control_system() as c),
       (select k.timeline_id from pg_catalog.pg_control_checkpoint() as k),
       pg_catalog.current_setting('wal_level'),
       pg_catalog.current_setting('summarize_wal', true),
       pg_catalog.current_setting('max_slot_wal_keep_size'),
       pg_catalog.current_setting('server_version'),
       (select s.setting::bigint from pg_catalog.pg_settings as s
         where s.name operator(pg_catalog.=) 'wal_segment_size'),
       (select pg_catalog.sum(pg_catalog.pg_database_size(d.oid))::bigint
          from pg_catalog.pg_database as d
         where pg_catalog.has_database_privilege(d.oid, 'connect')),
       (select pg_catalog.count(*) from pg_catalog.pg_tablespace as t
         where t.spcname operator(pg_catalog.<>) all (array['pg_default', 'pg_global']::name[]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Facts of one server."""

    version: str
    """Such as ``15.20``."""
    major: int
    system: str
    """System identifier: the same in all copies of one cluster."""
    timeline: int
    is_standby: bool
    wal_level: str
    summarizes: bool
    """``summarize_wal`` is on."""
    keeps_wal: str
    """``max_slot_wal_keep_size``: ``-1`` is no limit."""
    segment_size: int
    """Bytes of a segment of the write-ahead log."""
    size: int
    """Bytes of the databases that this user may see."""
    tablespaces: int
    """Besides the two that every server has."""
    settings: Mapping[str, str]
    """That a server which replays its log must have at least as high."""

    def require_plain_files(self) -> None:
        """Refuse a server whose files lie in several places.

        Raises:
            ConfigError: it has tablespaces of its own.
        """
        if self.tablespaces:
            raise ConfigError(
                f"the server has {self.tablespaces} tablespaces of its own, whose places a "
                "copy beside the server cannot have. Use `backup create` without a kind: a "
                "snapshot does not depend on them; or the adapter of pgBackRest."
            )

    def require_incremental(self) -> None:
        """Refuse a server that cannot make incremental backups.

        Raises:
            ConfigError: it is too old, or does not summarize its log.
        """
        if self.major < _INCREMENTAL_SINCE:
            raise ConfigError(
                f"the server is version {self.version}, and incremental backups begin with "
                f"{_INCREMENTAL_SINCE}. Make a full one: --kind physical."
            )
        if not self.summarizes:
            raise ConfigError(
                "the server has summarize_wal = off, so it does not know which blocks have "
                "changed. Set it: ALTER SYSTEM SET summarize_wal = on; SELECT "
                "pg_reload_conf(); then make a full backup first: --kind physical."
            )


@contextmanager
def connected(settings: Mapping[str, Any]) -> Iterator[psycopg.Connection[Any]]:
    """Connect to the database, for single statements.

    Args:
        settings: of libpq.

    Raises:
        StoreUnavailable: it cannot be reached, or a statement failed.
    """
    with with_packages(user="a physical backup"):
        import psycopg  # noqa: PLC0415 - an optional package
    try:
        with psycopg.connect(**_direct(settings), autocommit=True) as connection:
            yield connection
    except psycopg.Error as error:
        # Without its cause: a traceback of the driver shows settings.
        raise StoreUnavailable(_words(error, settings), store="PostgreSQL") from None


def look_at(settings: Mapping[str, Any]) -> Server:
    """Read the facts of a server; needs no special right.

    Raises:
        ConfigError: it does not show them to this user.
        StoreUnavailable: it cannot be reached.
    """
    with connected(settings) as connection:
        row = connection.execute(_FACTS).fetchone()
        higher = connection.execute(
            "select s.name, s.setting from pg_catalog.pg_settings as s "
            "where s.name operator(pg_catalog.=) any (%s::text[])",
            [list(_STANDBY_SETTINGS)],
        ).fetchall()
    if row is None:
        raise StoreUnavailable("it gave no answer", store="PostgreSQL")
    number, standby, system, timeline, level, summarize, keep, version, *sizes = row
    return Server(
        version=str(version).partition(" ")[0],
        major=number // 10_000,
        system=system,
        timeline=timeline,
        is_standby=standby,
        wal_level=level,
        summarizes=summarize == "on",
        keeps_wal=keep,
        segment_size=sizes[0],
        size=sizes[1],
        tablespaces=sizes[2],
        settings={str(name): str(value) for name, value in higher},
    )


def require_replication(settings: Mapping[str, Any]) -> tuple[str, int]:
    """Require that this user may copy the server; return its identifier and timeline.

    A connection for replication is made, as the programs make it: it needs the attribute
    REPLICATION, a line of ``pg_hba.conf``, and a free sender.

    Raises:
        ConfigError: it is refused; the message says that snapshots need none of it.
    """
    with with_packages(user="a physical backup"):
        import psycopg  # noqa: PLC0415 - an optional package
    direct = {k: v for k, v in _direct(settings).items() if k != "dbname"}
    try:
        with psycopg.connect(
            **direct, replication="yes", autocommit=True, prepare_threshold=None
        ) as connection:
            row = connection.execute("IDENTIFY_SYSTEM").fetchone()
    except psycopg.Error as error:
        raise ConfigError(
            f"the server refuses a connection for replication, which a physical backup "
            f"needs: {_words(error, settings)}. Where it is your own: ALTER ROLE ... REPLICATION, "
            f"a line 'host replication' in pg_hba.conf, wal_level = replica, and "
            f"max_wal_senders of 3 or more. {LOGICAL_IS_COMPLETE}."
        ) from None
    if row is None:
        raise StoreUnavailable("it gave no answer", store="PostgreSQL")
    system = row[0].decode() if isinstance(row[0], bytes) else str(row[0])
    return system, int(row[1])


def _direct(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"connect_timeout": 10, **settings}


def _words(error: Exception, settings: Mapping[str, Any]) -> str:
    first = str(error).strip().partition("\n")[0].rstrip(".")
    return one_line(hidden(first, [str(settings.get("password") or "")]), 400)
