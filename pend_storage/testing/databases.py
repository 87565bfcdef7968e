"""Test databases in PostgreSQL: new, migrated, or reused after they were emptied."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Mapping
from typing import Final, LiteralString

import psycopg
from psycopg import sql

from pend_storage.schema import Schema

__all__ = ["Databases"]

_numbers: Final = itertools.count(1)

_SESSIONS_END_WITHIN: Final = 20.0
"""Seconds. PostgreSQL itself waits for 5 s, which is too short on a busy machine."""
_POLL_INTERVAL: Final = 0.005
"""Seconds."""
_SESSIONS: Final = """
    select application_name, state, query from pg_stat_activity
    where datname = %s and pid <> pg_backend_pid() and backend_type = 'client backend'
"""

Contents = Mapping[str, bytes]
"""Rows by table, in COPY format."""


class Databases:
    """Factory of databases on one server; it drops them at the end.

    Args:
        server: URL of any database there; its user must be allowed to create others.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._made: list[str] = []
        self._fresh: dict[str, tuple[str, Contents]] = {}
        self._free: dict[str, list[str]] = {}
        self._lent: dict[str, str] = {}

    def make(self, template: str = "template0") -> str:
        """Create a database; return its URL.

        Args:
            template: name of the database to copy.

        Raises:
            RuntimeError: sessions use the template; PostgreSQL copies it only without
                any.
        """
        # PostgreSQL refuses to copy a database that has sessions.
        if template != "template0":
            with psycopg.connect(self._server, autocommit=True) as connection:
                _await_end_of_sessions(connection, template)
        name = f"pend_test_{os.getpid()}_{next(_numbers)}"
        self._run("create database {} template {}", name, template)
        self._made.append(name)
        return _with_database(self._server, name)

    def lend(self, schema: Schema) -> str:
        """Return the URL of a migrated, empty database, new or reused."""
        mark = schema.fingerprint()
        if mark not in self._fresh:
            self._fresh[mark] = self._migrate(schema)
        free = self._free.setdefault(mark, [])
        # A copy of a migrated database takes a fraction of a migration.
        url = free.pop() if free else self.make(self._fresh[mark][0])
        self._lent[url] = mark
        return url

    def give_back(self, url: str) -> None:
        """Empty a lent database, after its stores have been closed.

        Raises:
            RuntimeError: a session still uses it, which would disturb the next test.
        """
        mark = self._lent.pop(url)
        with psycopg.connect(url, autocommit=True) as connection:
            _await_end_of_sessions(connection, connection.info.dbname)
            _restore(connection, self._fresh[mark][1])
        self._free[mark].append(url)

    def drop_all(self) -> None:
        """Drop the created databases, even if sessions use them."""
        while self._made:
            self._run("drop database if exists {} with (force)", self._made.pop())

    def _migrate(self, schema: Schema) -> tuple[str, Contents]:
        from pend_storage.stores.postgres import PostgresStore  # noqa: PLC0415

        url = self.make()
        name = self._made[-1]
        with PostgresStore(schema, url) as store:
            store.migrate()
        return name, _contents(url)

    def _run(self, text: LiteralString, *names: str) -> None:
        statement = sql.SQL(text).format(*map(sql.Identifier, names))
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(statement)


def _with_database(url: str, name: str) -> str:
    # urllib would take one of the slashes out of postgresql:///name.
    return re.sub(r"^([\w+]+://[^/?]*)(?:/[^?]*)?", rf"\g<1>/{name}", url)


def _await_end_of_sessions(connection: psycopg.Connection, database: str) -> None:
    # A server process ends a moment after its client has closed the connection.
    deadline = time.monotonic() + _SESSIONS_END_WITHIN
    while sessions := connection.execute(_SESSIONS, [database]).fetchall():
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"{len(sessions)} sessions still use {database}: close its stores "
                f"first. Name, state and last statement: {sessions}"
            )
        time.sleep(_POLL_INTERVAL)


def _tables_with_rows(connection: psycopg.Connection) -> list[str]:
    """List the tables that have rows."""
    rows = connection.execute(
        "select relname from pg_class where relkind = 'r' and "
        "relnamespace = current_schema()::regnamespace order by relname"
    ).fetchall()
    names = [str(row[0]) for row in rows]
    ask = sql.SQL(", ").join(
        sql.SQL("exists (select from {})").format(sql.Identifier(name))
        for name in names
    )
    answer = connection.execute(sql.SQL("select {}").format(ask)).fetchone() or ()
    return [name for name, has_rows in zip(names, answer, strict=True) if has_rows]


def _contents(url: str) -> Contents:
    with psycopg.connect(url) as connection:
        found = {}
        for name in _tables_with_rows(connection):
            statement = sql.SQL("copy {} to stdout").format(sql.Identifier(name))
            with connection.cursor().copy(statement) as rows:
                found[name] = b"".join(rows)
        return found


def _restore(connection: psycopg.Connection, contents: Contents) -> None:
    with connection.transaction():
        # DELETE of a test's few rows is faster than TRUNCATE of the tables.
        # Tables refer to each other, and are emptied one by one.
        connection.execute("set constraints all deferred")
        # The entries of the audit are kept from being deleted, but for this setting.
        connection.execute("set local pend_storage.audit = 'forget'")
        for name in _tables_with_rows(connection):
            connection.execute(sql.SQL("delete from {}").format(sql.Identifier(name)))
        for name, text in contents.items():
            statement = sql.SQL("copy {} from stdin").format(sql.Identifier(name))
            with connection.cursor().copy(statement) as rows:
                rows.write(text)
