"""Databases with the roles of ``db grants``, and URLs of each role."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import sql

from pend_storage.config._database_url import overridden_url
from pend_storage.schema import Schema
from pend_storage.stores.postgres._privileges import (
    ROLES,
    DatabaseRoles,
    statements,
)

__all__ = ["RoleSet", "new_roles", "reader_of", "run"]

_NUMBERS = itertools.count(1)
_PASSWORD = "only-for-tests"  # noqa: S105 - invented


def run(url: str, *texts: str) -> None:
    """Run statements in a session of their own."""
    with psycopg.connect(url, autocommit=True) as connection:
        for text in texts:
            connection.execute(text.encode())


class RoleSet:
    """Four roles with a login on one server; databases get their grants."""

    def __init__(self, server: str) -> None:
        unique = f"{os.getpid()}_{next(_NUMBERS)}"
        names = {role: f'pend "{role}" {unique}' for role in ROLES}
        self.roles = DatabaseRoles(**names)
        self.server = server
        self._databases: set[str] = set()
        for name in self.roles:
            role = sql.Identifier(name)
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(
                    sql.SQL("create role {} login password {}").format(role, _PASSWORD)
                )

    def grant(self, url: str, schema: Schema) -> None:
        """Run the SQL of ``db grants`` in a database."""
        self._databases.add(url)
        run(url, *statements(schema, self.roles))

    def url(self, url: str, role: str) -> str:
        """URL of a database for one of the roles."""
        parts = {"user": getattr(self.roles, role), "password": _PASSWORD}
        if urlsplit(url).netloc:
            return overridden_url(url, parts)
        login = f"{quote(parts['user'], safe='')}:{_PASSWORD}"
        return url.replace("://", f"://{login}@", 1)

    def urls(self, url: str) -> Mapping[str, str]:
        """URLs of a database for every role."""
        return {role: self.url(url, role) for role in ROLES}

    def drop(self) -> None:
        """Give what the roles own to the user of the tests, and drop them."""
        names = [sql.Identifier(name) for name in self.roles]
        for url in [*self._databases, self.server]:
            with psycopg.connect(url, autocommit=True) as connection:
                for name in names:
                    connection.execute(
                        sql.SQL("reassign owned by {} to current_user").format(name)
                    )
                    connection.execute(sql.SQL("drop owned by {}").format(name))
                database = sql.Identifier(connection.info.dbname)
                if url != self.server:  # lent to other tests later
                    connection.execute(
                        sql.SQL(
                            "grant connect, temporary on database {} to public"
                        ).format(database)
                    )
        with psycopg.connect(self.server, autocommit=True) as connection:
            for name in names:
                connection.execute(sql.SQL("drop role {}").format(name))


@contextmanager
def new_roles(server: str) -> Iterator[RoleSet]:
    """Four roles during the block."""
    made = RoleSet(server)
    try:
        yield made
    finally:
        made.drop()


@contextmanager
def reader_of(url: str) -> Iterator[str]:
    """URL of a role that may read the tables, and nothing else: it may call no function."""
    name = f"looker {os.getpid()} {next(_NUMBERS)}"
    role = sql.Identifier(name)
    with psycopg.connect(url, autocommit=True) as connection:
        for text in (
            "create role {} login password {}",
            "grant usage on schema public to {}",
            "grant select on all tables in schema public to {}",
        ):
            statement = sql.SQL(text)
            values = (role, _PASSWORD) if "password" in text else (role,)
            connection.execute(statement.format(*values))
    try:
        if urlsplit(url).netloc:
            yield overridden_url(url, {"user": name, "password": _PASSWORD})
        else:
            login = f"{quote(name, safe='')}:{_PASSWORD}"
            yield url.replace("://", f"://{login}@", 1)
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            for text in ("drop owned by {}", "drop role {}"):
                connection.execute(sql.SQL(text).format(role))
