"""Migration lock: one migration of a store at a time, and in its own schema only.

The lock is one on Alembic's version table, which needs a grant, unlike an advisory lock.
Its mode excludes itself and no reader or writer of rows.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, MetaData, text

from pend_storage.errors import ConfigError
from pend_storage.stores.postgres._connection.own_names import OWN, OWN_SCHEMA
from pend_storage.stores.postgres._schema.tables import REVISION_TABLE

__all__ = ["is_application", "lock_migrations", "refuse_foreign_tables"]

_FORMER_LOCK: Final = 0x70656E64_6D696772
"""Advisory lock of migrations by versions before revision 0004."""
_FORMER_MIGRATIONS: Final = f"""
select exists (
  select from pg_locks as l join pg_stat_activity as a on a.pid = l.pid
   where l.locktype = 'advisory' and l.objsubid = 1 and l.granted
     and l.classid = {_FORMER_LOCK >> 32} and l.objid = {_FORMER_LOCK & 0xFFFFFFFF}
     and l.database = (select oid from pg_database where datname = current_database())
     and exists (select from pg_roles as r
                  where has_table_privilege(r.oid, '{OWN}changes'::regclass, 'update')
                    and pg_has_role(a.usesysid, r.oid, 'member')))"""
_OWNERS: Final = f"""
select c.relname, pg_get_userbyid(c.relowner)
  from pg_class as c
 where c.relnamespace = to_regnamespace('{OWN_SCHEMA}') and c.relname = any(:names)
   and c.relowner <> (select u.oid from pg_roles as u where u.rolname = current_user)
   and not has_table_privilege(c.relowner, to_regclass('{OWN}store_meta'), 'update')
 order by 1"""


def is_application(connection: Connection) -> bool:
    """Return True where this role may write records, and may not migrate."""
    may = (
        f"select has_table_privilege(to_regclass('{OWN}store_meta'), 'update') and not "
        f"has_table_privilege(to_regclass('{OWN}{REVISION_TABLE}'), 'update')"
    )
    return connection.scalar(text(may)) is True


def lock_migrations(connection: Connection) -> None:
    """Wait for other migrations, and keep them out until the transaction ends.

    The schema and Alembic's version table are created where they are missing.
    """
    if connection.scalar(text(f"select to_regnamespace('{OWN_SCHEMA}')")) is None:
        connection.execute(text(f"create schema {OWN_SCHEMA}"))
    table = f"{OWN}{REVISION_TABLE}"
    if connection.scalar(text(f"select to_regclass('{table}')")) is None:
        connection.execute(
            text(
                f"create table {table} (version_num varchar(32) not null, "
                f"constraint {REVISION_TABLE}_pkc primary key (version_num))"
            )
        )
    connection.execute(text(f"lock table {table} in share update exclusive mode"))
    _await_former_versions(connection)


def _await_former_versions(connection: Connection) -> None:
    """Wait for a migration by a program of a former version, unless it is a stranger's."""
    attempt = text(f"select pg_try_advisory_xact_lock({_FORMER_LOCK})")
    if connection.scalar(attempt):
        return
    there = text(f"select to_regclass('{OWN}changes')")
    if connection.scalar(there) is None or connection.scalar(text(_FORMER_MIGRATIONS)):
        connection.execute(text(f"select pg_advisory_xact_lock({_FORMER_LOCK})"))


def refuse_foreign_tables(
    connection: Connection, declared: MetaData, store: str
) -> None:
    """Refuse a table that another role has made in the place of a declared one.

    Its owner could attach code to it that runs as the application.

    Raises:
        ConfigError: there is such a table.
    """
    names = [table.name for table in declared.sorted_tables]
    found = connection.execute(text(_OWNERS), {"names": names}).all()
    if found:
        listed = ", ".join(f"{name} (owner {owner})" for name, owner in found)
        raise ConfigError(
            f"{store}: tables of this schema belong to another role: {listed}. Drop or "
            "rename them, or give them to the role that migrates; nothing was changed."
        )
