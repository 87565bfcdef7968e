"""Advisory locks on keys, unique values and names, which any role may take.

PostgreSQL lets every role of a database take any advisory lock, and read in ``pg_locks``
which ones are held. So a role without grants, here a *stranger*, can take one that a
commit needs. A commit therefore waits for such a lock for a short time only, looks who
stands in the way, and gives up where it is a stranger. It is then repeated with the store
lock held exclusively: that is a lock on a table, which needs a grant, and which excludes
all other commits, so that no lock of a key is needed.

A *named lock* has no such table. Its holder adds a random number to the number of the
name, which no stranger can have taken before, and then looks for other holders of the
name: a holder that is no stranger excludes it. The lock of the name itself is only the queue of
those who wait.
"""

from __future__ import annotations

from typing import Final

from pend_storage.stores.postgres._connection.own_names import OWN
from pend_storage.stores.postgres._functions.sequence_numbers import PINNED
from pend_storage.stores.postgres._schema.tables import STORE_LOCK

__all__ = ["await_lock", "is_member", "is_taken_by_stranger", "lock_name", "take"]

_FIRST_WAIT: Final = 250
"""Milliseconds of a wait before it is asked who is in the way: most end long before."""
_NEXT_WAIT: Final = 1_000
_STRANGER_FOUND: Final = "pend_storage.stranger_found"
"""Setting of a transaction that has found a stranger in its way."""
_HERE: Final = (
    "(select b$.oid from pg_database as b$ where b$.datname = current_database())"
)


def take(number: str, shared: str = "false") -> str:
    """SQL expression that takes an advisory lock; false: a stranger has it.

    Args:
        number: SQL text of the lock's number.
        shared: SQL text of whether it is taken shared.
    """
    attempt = f"pg_try_advisory_xact_lock({number})"
    if shared != "false":
        attempt = (
            f"case when {shared} then pg_try_advisory_xact_lock_shared({number}) "
            f"else {attempt} end"
        )
    return (
        f"(case when {attempt} then true else {OWN}pend_await({number}, {shared}) end)"
    )


def is_member() -> str:
    """Function: whether a role may hold the store lock, or is a member of one that may."""
    return f"""
create or replace function {OWN}pend_is_member(_role$ oid)
returns boolean language plpgsql stable {PINNED} as $pend$
begin
  return exists (
    select from pg_roles as r$
     where has_table_privilege(r$.oid, '{OWN}{STORE_LOCK}'::regclass, 'update')
       and pg_has_role(_role$, r$.oid, 'member'));
end $pend$"""


def is_taken_by_stranger() -> str:
    """Function: whether a stranger holds an advisory lock, or waits for it."""
    return f"""
create or replace function {OWN}pend_is_strangers(_lock$ bigint)
returns boolean language plpgsql volatile {PINNED} as $pend$
begin
  return exists (
    select from pg_locks as l$ left join pg_stat_activity as a$ on a$.pid = l$.pid
     where l$.locktype = 'advisory' and l$.objsubid = 1 and l$.database = {_HERE}
       and l$.classid = ((_lock$ >> 32) & 4294967295)::oid
       and l$.objid = (_lock$ & 4294967295)::oid
       and l$.pid is distinct from pg_backend_pid()
       and {OWN}pend_is_member(a$.usesysid) is not true);
end $pend$"""


def await_lock() -> str:
    """Function that waits for an advisory lock; false: a stranger is in the way.

    It waits for ``lock_timeout`` altogether, in steps. Each is a subtransaction, because
    a wait that timed out has failed. Raises ``55P03`` after the last one.

    After a stranger was found, the transaction waits for no further lock: it is repeated
    without them, and a stranger with the locks of many keys would else cost a wait for each.
    """
    return f"""
create or replace function {OWN}pend_await(_lock$ bigint, _shared$ boolean)
returns boolean language plpgsql volatile {PINNED} as $pend$
declare _patience$ text := current_setting('lock_timeout');
        _until$ timestamptz := case when _patience$ = '0' then 'infinity'::timestamptz
                                    else clock_timestamp() + _patience$::interval end;
        _step$ numeric := {_FIRST_WAIT};
begin
  if current_setting('{_STRANGER_FOUND}', true) = 'yes' then
    return false;
  end if;
  loop
    begin
      perform set_config('lock_timeout', ceil(greatest(1, least(_step$,
        case when _patience$ = '0' then _step$
             else extract(epoch from _until$ - clock_timestamp()) * 1000 end)))::text,
        true);
      if _shared$ then
        perform pg_advisory_xact_lock_shared(_lock$);
      else
        perform pg_advisory_xact_lock(_lock$);
      end if;
      perform set_config('lock_timeout', _patience$, true);
      return true;
    exception when lock_not_available then
      if {OWN}pend_is_strangers(_lock$) then
        perform set_config('{_STRANGER_FOUND}', 'yes', true);
        return false;
      end if;
      if clock_timestamp() >= _until$ then
        raise exception using errcode = '55P03',
          message = 'canceling statement due to lock timeout';
      end if;
      _step$ := {_NEXT_WAIT};
    end;
  end loop;
end $pend$"""


def lock_name() -> str:
    """Function that takes a named lock; false: another session has it.

    Two sessions that take it at the same time may find each other, and then neither has
    it. Both must end their transactions and try again.
    """
    return f"""
create or replace function {OWN}pend_lock_name(
  _queue$ bigint, _name$ integer, _mine$ integer, _wait$ boolean
) returns boolean language plpgsql volatile {PINNED} as $pend$
begin
  if not pg_try_advisory_xact_lock(_queue$) then
    if _wait$ then
      perform {OWN}pend_await(_queue$, false);
    elsif not {OWN}pend_is_strangers(_queue$) then
      return false;
    end if;
  end if;
  if not pg_try_advisory_xact_lock(_name$, _mine$) then
    return false;
  end if;
  return not exists (
    select from pg_locks as l$ join pg_stat_activity as a$ on a$.pid = l$.pid
     where l$.locktype = 'advisory' and l$.objsubid = 2 and l$.database = {_HERE}
       and l$.classid = (_name$::bigint & 4294967295)::oid and l$.granted
       and l$.pid <> pg_backend_pid() and {OWN}pend_is_member(a$.usesysid));
end $pend$"""
