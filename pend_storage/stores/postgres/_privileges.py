"""Privileges of database roles: the least that each one needs, derived from the schema.

Nothing is listed by hand that a declaration knows: tables come from the declared tables, and
functions from their definitions. So a table or a function that is added is covered at once.

Four roles: the *owner* migrates; the *application* reads and writes records, and only adds
to the change log and to the audit; the *reader* reads; the *archiver* reads, and prunes the change log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from pend_storage.schema import AUDIT, Schema
from pend_storage.stores.postgres._functions.definitions import definitions
from pend_storage.stores.postgres._schema.tables import (
    REVISION_TABLE,
    STORE_LOCK,
    declare,
)

__all__ = [
    "ROLES",
    "DatabaseRoles",
    "PrivilegeProblem",
    "check_privileges",
    "may_prune",
    "may_write",
    "statements",
]

ROLES: Final = ("owner", "application", "reader", "archiver")
_READ: Final = ("select",)
_WRITE: Final = ("select", "insert", "update", "delete")
_APPEND: Final = ("select", "insert")
_TABLE_PRIVILEGES: Final = (*_WRITE, "truncate", "references", "trigger")
_CHANGE_LOG: Final = "changes"
_DATABASE: Final = "\0"
_POSITIONS: Final = "store_meta"
"""Table with the position up to which the log is pruned, which the archiver moves."""
_SIGNATURE: Final = re.compile(
    r'create or replace function\s+[^\s("]*?(?P<name>"(?:[^"]|"")+"|pend_\w+)'
    r"\s*\((?P<arguments>[^)]*)\)",
    re.IGNORECASE,
)
_WRITES: Final = re.compile(
    r"\binsert\s+into\b|\bupdate\s+\S+\s+as\b|\bdelete\s+from\b|\block\s+table\b"
    r"|\bpg_advisory_|\bset\s+constraints\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseRoles:
    """Names of the four roles of a database."""

    owner: str = "pend_owner"
    application: str = "pend_application"
    reader: str = "pend_reader"
    archiver: str = "pend_archiver"

    @property
    def users(self) -> tuple[str, ...]:
        """The roles that own nothing."""
        return self.application, self.reader, self.archiver

    def __iter__(self) -> Iterator[str]:
        return iter((self.owner, *self.users))


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivilegeProblem:
    """Difference between the privileges of a role in a database and the least ones."""

    role: str
    """Name of the role; ``public`` for all of them."""
    object: str
    problem: str
    """Sentence for people."""


@dataclass(frozen=True, slots=True)
class _Function:
    """Function of the library, and whether it only reads."""

    name: str
    arguments: str
    only_reads: bool

    def text(self, namespace: str) -> str:
        return f"{_name(namespace)}.{self.name}({self.arguments})"


def statements(
    schema: Schema, roles: DatabaseRoles, *, namespace: str = "public"
) -> Iterator[str]:
    """SQL that makes the roles, and gives each one exactly the least privileges.

    One transaction, to be run by a superuser, or by a role that may create roles and owns
    the tables. It is run after each migration, and may be repeated.

    Args:
        schema: as declared.
        roles: names of the roles; those that do not exist are created without a login.
        namespace: schema of the database that the tables are in.
    """
    yield "begin"
    yield from map(_create_role, roles)
    yield from _around(roles, namespace)
    for table, granted in _table_privileges(schema).items():
        yield from _table_statements(table, granted, roles, namespace)
    for function in _functions(schema):
        yield from _function_statements(function, roles, namespace)
    yield from _future(roles, namespace)
    yield "commit"


def _create_role(role: str) -> str:
    return (
        "do $pend$ begin if not exists "
        f"(select from pg_roles where rolname = {_text(role)}) then "
        f"create role {_name(role)} nologin; end if; end $pend$"
    )


def _around(roles: DatabaseRoles, namespace: str) -> Iterator[str]:
    """Privileges on the database and on the schema of the tables."""
    space, users = _name(namespace), ", ".join(map(_name, roles.users))
    yield _on_database(
        f"revoke connect, temporary, create on database {_DATABASE} from public"
    )
    yield _on_database(f"revoke all on database {_DATABASE} from {users}")
    yield _on_database(
        f"grant connect on database {_DATABASE} to {', '.join(map(_name, roles))}"
    )
    # The owner creates the extension for searches of substrings.
    yield _on_database(f"grant create on database {_DATABASE} to {_name(roles.owner)}")
    yield f"revoke create on schema {space} from public"
    yield f"revoke all on schema {space} from {users}"
    yield f"grant usage on schema {space} to {users}"
    yield f"grant usage, create on schema {space} to {_name(roles.owner)}"


def _on_database(statement: str) -> str:
    """Statement on the database that the session is in, whose name is not known here."""
    statement = statement.replace("%", "%%").replace(_DATABASE, "%I")
    return (
        f"do $pend$ begin execute format({_text(statement)}, current_database()); "
        "end $pend$"
    )


def _table_privileges(schema: Schema) -> dict[str, dict[str, tuple[str, ...]]]:
    """Privileges on every declared table, by role."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for table in declare(schema).tables.values():
        found[str(table.name)] = {
            "application": _WRITE,
            "reader": _READ,
            "archiver": _READ,
        }
    found[_CHANGE_LOG] |= {"application": _APPEND, "archiver": ("select", "delete")}
    found[AUDIT]["application"] = _APPEND
    found[_POSITIONS]["archiver"] = ("select", "insert", "update")
    # LOCK TABLE demands UPDATE for the modes in which commits hold it.
    found[STORE_LOCK] = dict.fromkeys(ROLES[1:], _READ)
    found[STORE_LOCK]["application"] = ("select", "update")
    found[REVISION_TABLE] = dict.fromkeys(ROLES[1:], _READ)
    return found


def _functions(schema: Schema) -> Iterator[_Function]:
    """Every function of the library, from its definition."""
    for text in definitions(schema):
        found = _SIGNATURE.search(text)
        if found is None:
            raise AssertionError(text[:80])
        arguments = " ".join(found["arguments"].split())
        only_reads = _WRITES.search(text, found.end()) is None
        yield _Function(found["name"], arguments, only_reads)


def _table_statements(
    table: str,
    granted: dict[str, tuple[str, ...]],
    roles: DatabaseRoles,
    namespace: str,
) -> Iterator[str]:
    place = f"{_name(namespace)}.{_name(table)}"
    yield f"alter table {place} owner to {_name(roles.owner)}"
    yield f"revoke all on table {place} from public, {', '.join(map(_name, roles.users))}"
    for role, privileges in granted.items():
        name = _name(getattr(roles, role))
        yield f"grant {', '.join(privileges)} on table {place} to {name}"


def _function_statements(
    function: _Function, roles: DatabaseRoles, namespace: str
) -> Iterator[str]:
    place, users = function.text(namespace), roles.users
    yield f"alter function {place} owner to {_name(roles.owner)}"
    yield f"revoke all on function {place} from public, {', '.join(map(_name, users))}"
    callers = users if function.only_reads else (roles.application,)
    yield f"grant execute on function {place} to {', '.join(map(_name, callers))}"


def _future(roles: DatabaseRoles, namespace: str) -> Iterator[str]:
    """Default privileges of what the owner's next migration creates."""
    owner, space = _name(roles.owner), _name(namespace)
    default = f"alter default privileges for role {owner}"
    # A default for one schema cannot take away what PUBLIC has by itself.
    yield f"{default} revoke execute on functions from public"
    yield f"{default} in schema {space} grant execute on functions to {_name(roles.application)}"
    readers = f"{_name(roles.reader)}, {_name(roles.archiver)}"
    yield f"{default} in schema {space} grant select on tables to {readers}"
    yield (
        f"{default} in schema {space} grant {', '.join(_WRITE)} on tables to "
        f"{_name(roles.application)}"
    )


def _name(name: str) -> str:
    """Quote an identifier, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def may_prune(connection: psycopg.Connection[Any], namespace: str) -> bool:
    """Return whether the role of a session may delete from the change log."""
    return _may(connection, f"{_name(namespace)}.{_CHANGE_LOG}", "delete")


def may_write(connection: psycopg.Connection[Any], namespace: str) -> bool:
    """Return whether the role of a session may change the store's meta entries."""
    return _may(connection, f"{_name(namespace)}.{_POSITIONS}", "update")


def _may(connection: psycopg.Connection[Any], table: str, privilege: str) -> bool:
    row = connection.execute(
        "select coalesce(pg_catalog.has_table_privilege("
        "pg_catalog.to_regclass(%s::text), %s::text), true)",
        (table, privilege),
    ).fetchone()
    return row is not None and bool(row[0])


# -- comparison with a database --------------------------------------------------------


def check_privileges(
    connection: psycopg.Connection[Any],
    schema: Schema,
    roles: DatabaseRoles,
    *,
    namespace: str = "public",
) -> list[PrivilegeProblem]:
    """Compare the privileges in a database with the least ones; changes nothing.

    Args:
        connection: to the database, by any role.
        schema: as declared.
        roles: names of the roles.
        namespace: schema of the database that the tables are in.
    """
    return list(_Check(connection, roles, namespace).problems(schema))


@dataclass(frozen=True, slots=True)
class _Check:
    connection: psycopg.Connection[Any]
    roles: DatabaseRoles
    namespace: str

    def problems(self, schema: Schema) -> Iterator[PrivilegeProblem]:
        missing = [r for r in self.roles if not self._one(_ROLE, r)]
        for role in missing:
            yield _problem(role, "server", "the role does not exist")
        for role in self.roles.users:
            if self._one(_POWER, role):
                yield _problem(role, "server", "the role is a superuser or may do more")
        present = [role for role in self.roles.users if role not in missing]
        yield from self._surroundings(present)
        for table, granted in _table_privileges(schema).items():
            yield from self._table(table, granted, missing)
        for function in _functions(schema):
            yield from self._function(function, present)

    def _surroundings(self, present: list[str]) -> Iterator[PrivilegeProblem]:
        for privilege in ("connect", "temporary"):
            if self._one(
                "select has_database_privilege('public', current_database(), %s)",
                privilege,
            ):
                yield _problem("public", "the database", f"every role has {privilege}")
        space = self.namespace
        if not self._one("select to_regnamespace(quote_ident(%s)) is not null", space):
            yield _problem("public", f"schema {space}", "the schema does not exist")
            return
        sql = "select has_schema_privilege(%s, %s, %s)"
        for role in ("public", *present):
            if self._one(sql, role, space, "create"):
                yield _problem(role, f"schema {space}", "has create, and needs it not")
        for role in present:
            if not self._one(sql, role, space, "usage"):
                yield _problem(role, f"schema {space}", "lacks usage")

    def _table(
        self, table: str, granted: dict[str, tuple[str, ...]], missing: list[str]
    ) -> Iterator[PrivilegeProblem]:
        place = f"{_name(self.namespace)}.{_name(table)}"
        owner = self._one(
            "select pg_get_userbyid(relowner) from pg_class where oid = to_regclass(%s)",
            place,
        )
        label = f"table {table}"
        if owner is None:
            yield _problem(self.roles.owner, label, "the table does not exist")
            return
        if owner != self.roles.owner:
            yield _problem(str(owner), label, f"is the owner, not {self.roles.owner}")
        for role, wanted in (*granted.items(), ("public", ())):
            name = role if role == "public" else getattr(self.roles, role)
            if name in missing:
                continue
            sql = "select has_table_privilege(%s, %s, %s)"
            found = {p for p in _TABLE_PRIVILEGES if self._one(sql, name, place, p)}
            yield from _compared(name, label, found, set(wanted))

    def _function(
        self, function: _Function, present: list[str]
    ) -> Iterator[PrivilegeProblem]:
        label = f"function {function.name}"
        found = self.connection.execute(
            "select p.oid from pg_proc as p join pg_namespace as n on n.oid = "
            "p.pronamespace where n.nspname = %s and p.proname = %s",
            (self.namespace, function.name.strip('"').replace('""', '"')),
        ).fetchall()
        if not found:
            yield _problem(self.roles.owner, label, "the function does not exist")
        sql = "select has_function_privilege(%s, %s::oid, 'execute')"
        for (oid,) in found:
            for name in ("public", *present):
                may = name == self.roles.application or function.only_reads
                wanted = {"execute"} if may and name != "public" else set[str]()
                has = {"execute"} if self._one(sql, name, oid) else set[str]()
                yield from _compared(name, label, has, wanted)

    def _one(self, sql: str, *values: object) -> Any:
        row = self.connection.execute(sql.encode(), values).fetchone()
        return None if row is None else row[0]


_ROLE: Final = "select exists (select from pg_roles where rolname = %s)"
_POWER: Final = (
    "select rolsuper or rolcreatedb or rolcreaterole or rolbypassrls or rolreplication "
    "from pg_roles where rolname = %s"
)


def _compared(
    role: str, label: str, found: set[str], wanted: set[str]
) -> Iterator[PrivilegeProblem]:
    if lacking := wanted - found:
        yield _problem(role, label, f"lacks {', '.join(sorted(lacking))}")
    if surplus := found - wanted:
        yield _problem(
            role, label, f"has {', '.join(sorted(surplus))}, and needs it not"
        )


def _problem(role: str, label: str, problem: str) -> PrivilegeProblem:
    return PrivilegeProblem(role=role, object=label, problem=problem)
