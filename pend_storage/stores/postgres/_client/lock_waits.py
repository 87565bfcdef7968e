"""Lock holders: sessions that hold up a commit, never their queries."""

from __future__ import annotations

from typing import Final

from psycopg.pq.abc import PGresult

from pend_storage.errors import PendStorageError
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._connection.connection import Statement
from pend_storage.stores.postgres._connection.own_names import EQ, LT, OWN
from pend_storage.stores.postgres._schema.tables import STORE_LOCK

__all__ = ["describe_lock_holders"]

_MAX_SESSIONS: Final = 3
_HERE: Final = f"""(select d.oid from pg_catalog.pg_database as d
    where d.datname {EQ} pg_catalog.current_database())"""
_HOLDERS: Final = Statement(
    f"""
with recursive held (pid) as (
  select l.pid from pg_catalog.pg_locks as l
   where l.locktype {EQ} 'relation'::text and l.database {EQ} {_HERE}
     and l.relation {EQ} '{OWN}{STORE_LOCK}'::pg_catalog.regclass
  union
  select l.pid from pg_catalog.pg_locks as l
   where l.locktype {EQ} 'advisory'::text and not l.granted and l.database {EQ} {_HERE}
  union
  select b.pid from held,
         pg_catalog.unnest(pg_catalog.pg_blocking_pids(held.pid)) as b (pid)
), idle (pid) as (
  select l.pid from pg_catalog.pg_locks as l
    join pg_catalog.pg_stat_activity as a on a.pid {EQ} l.pid
   where l.locktype {EQ} 'relation'::text and l.granted
     and l.mode operator(pg_catalog.<>) 'AccessShareLock'::text
     and l.database {EQ} {_HERE}
     and a.xact_start {LT} (pg_catalog.clock_timestamp()
                            operator(pg_catalog.-) interval '1 s')
)
select a.pid, a.usename, a.application_name, a.state,
       (extract(epoch from pg_catalog.clock_timestamp()
                           operator(pg_catalog.-) a.xact_start))::bigint
  from pg_catalog.pg_stat_activity as a
 where (exists (select from held as h where h.pid {EQ} a.pid)
        or exists (select from idle as i where i.pid {EQ} a.pid))
   and a.pid operator(pg_catalog.<>) pg_catalog.pg_backend_pid()
   and pg_catalog.cardinality(pg_catalog.pg_blocking_pids(a.pid)) {EQ} 0
 order by a.xact_start nulls last limit {_MAX_SESSIONS}::bigint""".encode()
)
"""Of the sessions that hold the store lock, wait for a key or have changed a table, and of those that
block these, the ones that wait for none.
"""


def describe_lock_holders(client: DatabaseClient) -> str:
    """Describe the sessions that hold locks, as the end of a reason; may be empty."""
    try:
        result = client.fetch(_HOLDERS)
    except PendStorageError:
        return ""  # the error under construction is enough
    found = [_session(result, row) for row in range(result.ntuples)]
    return f"; held up by {', '.join(found)}" if found else ""


def _session(result: PGresult, row: int) -> str:
    pid, user, application, state, seconds = (
        (result.get_value(row, column) or b"").decode(errors="replace")
        for column in range(5)
    )
    facts = [f"user {user}", f"application {application!r}" if application else ""]
    facts += [state, f"transaction open for {seconds} s" if seconds else ""]
    return f"process {pid} ({', '.join(filter(None, facts))})"
