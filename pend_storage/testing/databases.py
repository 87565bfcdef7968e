"""Databases for tests: empty ones, migrated ones, and used ones made empty again."""

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
"""Seconds. PostgreSQL itself waits for 5, which a busy machine has exceeded."""
_POLL_INTERVAL: Final = 0.005
"""Seconds."""
_SESSIONS: Final = """
    select application_name, state, query from pg_stat_activity
    where datname = %s and pid <> pg_backend_pid() and backend_type = 'client backend'
"""

Contents = Mapping[str, bytes]
"""Rows of tables, as COPY gives them."""


class Databases:
    """Makes databases on a server, and drops them at the end.

    Args:
        server: URL of any database there; its user must be allowed to make others.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._made: list[str] = []
        self._fresh: dict[str, tuple[str, Contents]] = {}
        self._free: dict[str, list[str]] = {}
        self._lent: dict[str, str] = {}

    def make(self, template: str = "template0") -> str:
        """URL of a new database, a copy of another one.

        Raises:
            RuntimeError: sessions use the other one, which PostgreSQL does not copy.
        """
        if template != "template0":
            with psycopg.connect(self._server, autocommit=True) as connection:
                _await_end_of_sessions(connection, template)
        name = f"pend_test_{os.getpid()}_{next(_numbers)}"
        self._run("create database {} template {}", name, template)
        self._made.append(name)
        return _with_database(self._server, name)

    def lend(self, schema: Schema) -> str:
        """URL of a database that has been migrated to a schema and is empty."""
        mark = schema.fingerprint()
        if mark not in self._fresh:
            self._fresh[mark] = self._migrate(schema)
        free = self._free.setdefault(mark, [])
        url = free.pop() if free else self.make(self._fresh[mark][0])
        self._lent[url] = mark
        return url

    def give_back(self, url: str) -> None:
        """Empty a database that was lent, after its stores have been closed.

        Raises:
            RuntimeError: a session still uses it, which the next test would suffer from.
        """
        mark = self._lent.pop(url)
        with psycopg.connect(url, autocommit=True) as connection:
            _await_end_of_sessions(connection, connection.info.dbname)
            _restore(connection, self._fresh[mark][1])
        self._free[mark].append(url)

    def drop_all(self) -> None:
        """Drop what was made, whoever is connected to it."""
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


def _filled(connection: psycopg.Connection) -> list[str]:
    """The tables that have rows."""
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
        for name in _filled(connection):
            statement = sql.SQL("copy {} to stdout").format(sql.Identifier(name))
            with connection.cursor().copy(statement) as rows:
                found[name] = b"".join(rows)
        return found


def _restore(connection: psycopg.Connection, contents: Contents) -> None:
    with connection.transaction():
        # To truncate some tables takes longer than to delete a test's few rows.
        connection.execute("set constraints all deferred")
        for name in _filled(connection):
            connection.execute(sql.SQL("delete from {}").format(sql.Identifier(name)))
        for name, text in contents.items():
            statement = sql.SQL("copy {} from stdin").format(sql.Identifier(name))
            with connection.cursor().copy(statement) as rows:
                rows.write(text)
