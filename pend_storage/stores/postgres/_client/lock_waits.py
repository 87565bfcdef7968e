"""Lock holders: sessions that hold up a commit, never their queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from psycopg.pq.abc import PGresult
from typing_extensions import override

from pend_storage.errors import PendStorageError
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._connection.connection import Statement
from pend_storage.stores.postgres._connection.own_names import EQ, LT, OWN
from pend_storage.stores.postgres._schema.tables import STORE_LOCK

__all__ = ["LockHolder", "describe_lock_holders", "lock_holders"]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LockHolder:
    """Session that holds a lock, and waits for none."""

    pid: str
    user: str
    application: str
    state: str
    seconds: int | None
    """Age of its transaction; None: hidden from this role."""

    @override
    def __str__(self) -> str:
        facts = [f"user {self.user}"]
        facts += [f"application {self.application!r}"] if self.application else []
        facts += [self.state] if self.state else []
        if self.seconds is not None:
            facts.append(f"transaction open for {self.seconds} s")
        return f"process {self.pid} ({', '.join(facts)})"


def lock_holders(client: DatabaseClient) -> list[LockHolder]:
    """Sessions that hold the store lock or have changed a table; none if unknown."""
    try:
        result = client.fetch(_HOLDERS)
    except PendStorageError:
        return []
    return [_session(result, row) for row in range(result.ntuples)]


def describe_lock_holders(client: DatabaseClient) -> str:
    """Describe the sessions that hold locks, as the end of a reason; may be empty."""
    found = lock_holders(client)
    return f"; held up by {', '.join(map(str, found))}" if found else ""


def _session(result: PGresult, row: int) -> LockHolder:
    pid, user, application, state, seconds = (
        (result.get_value(row, column) or b"").decode(errors="replace")
        for column in range(5)
    )
    return LockHolder(
        pid=pid,
        user=user,
        application=application,
        state=state,
        seconds=int(seconds) if seconds else None,
    )
