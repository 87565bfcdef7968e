"""Lock holders: sessions that hold up a commit, never their queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from psycopg.pq.abc import PGresult
from typing_extensions import override

from pend_storage.errors import PendStorageError
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._connection.connection import Statement
from pend_storage.stores.postgres._functions.sequence_numbers import STORE_LOCK

__all__ = ["LockHolder", "describe_lock_holders", "lock_holders"]

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
