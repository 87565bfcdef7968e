"""Lock holders: sessions that hold up a commit, never their queries."""

from __future__ import annotations

from typing import Final

from psycopg.pq.abc import PGresult

from pend_storage.errors import PendStorageError
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._connection.connection import Statement
from pend_storage.stores.postgres._functions.sequence_numbers import STORE_LOCK

__all__ = ["describe_lock_holders"]

_MAX_SESSIONS: Final = 3
_HOLDERS: Final = Statement(
    f"""
with recursive held (pid) as (
  select l.pid from pg_locks as l
   where l.locktype = 'advisory' and l.objsubid = 1
     and l.classid = {STORE_LOCK >> 32} and l.objid = {STORE_LOCK & 0xFFFFFFFF}
     and l.database = (select oid from pg_database where datname = current_database())
  union
  select b.pid from held, unnest(pg_blocking_pids(held.pid)) as b (pid)
), idle (pid) as (
  select l.pid from pg_locks as l join pg_stat_activity as a on a.pid = l.pid
   where l.locktype = 'relation' and l.granted and l.mode <> 'AccessShareLock'
     and l.database = (select oid from pg_database where datname = current_database())
     and a.xact_start < clock_timestamp() - interval '1 s'
)
select a.pid, a.usename, a.application_name, a.state,
       extract(epoch from clock_timestamp() - a.xact_start)::bigint
  from pg_stat_activity as a
 where a.pid in (select pid from held union select pid from idle)
   and a.pid <> pg_backend_pid() and cardinality(pg_blocking_pids(a.pid)) = 0
 order by a.xact_start nulls last limit {_MAX_SESSIONS}""".encode()
)
"""Of the sessions that hold the store lock or have changed a table, and of those that
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
