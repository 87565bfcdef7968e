"""Grants: the least privileges of the database's roles, as SQL, and their check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pend_storage.config import Settings
from pend_storage.errors import ConfigError
from pend_storage.factory import load_schema
from pend_storage.stores.postgres import inspection
from pend_storage.stores.postgres._connection.own_names import DEFAULT_SCHEMA
from pend_storage.stores.postgres._privileges import (
    DatabaseRoles,
    PrivilegeProblem,
    check_privileges,
    statements,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Grants", "check_grants", "grants"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """Statements that give the least privileges, or what differs from them."""

    roles: DatabaseRoles
    namespace: str
    """Schema of the database that the tables are in."""
    statements: tuple[str, ...] = ()
    """Empty after a check."""
    problems: tuple[PrivilegeProblem, ...] = ()


def grants(settings: Settings, names: Mapping[str, str]) -> Grants:
    """Make the statements; connects to nothing.

    Args:
        settings: of the environment; its schema module counts.
        names: of the roles ``owner``, ``application``, ``reader`` and ``archiver`` that have
            other names than the default ones.

    Raises:
        ConfigError: the schema module cannot be loaded, or two roles have one name.
    """
    roles, postgres = _roles(names), settings.postgres
    namespace = DEFAULT_SCHEMA if postgres is None else postgres.schema
    found = statements(load_schema(settings).schema, roles, namespace=namespace)
    return Grants(roles=roles, namespace=namespace, statements=tuple(found))


def check_grants(settings: Settings, names: Mapping[str, str]) -> Grants:
    """Compare the privileges in the database with the least ones; changes nothing.

    Args:
        settings: of the environment.
        names: as for :func:`grants`.

    Raises:
        ConfigError: no database is configured, or two roles have one name.
        StoreUnavailable: the database cannot be reached.
    """
    roles, wanted = _roles(names), settings.require_postgres()
    schema = load_schema(settings).schema
    with inspection(
        wanted.full_url,
        connect_timeout=wanted.connect_timeout,
        application_name="pend_storage grants",
    ) as connection:
        found = check_privileges(connection, schema, roles, namespace=wanted.schema)
    return Grants(roles=roles, namespace=wanted.schema, problems=tuple(found))


def _roles(names: Mapping[str, str]) -> DatabaseRoles:
    roles = DatabaseRoles(**names)
    if len(set(roles)) < len(list(roles)):
        raise ConfigError(
            "two of the roles have the same name. Name four different ones: the owner may "
            "do what the application must not."
        )
    return roles
