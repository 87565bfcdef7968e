"""Migration errors: exceptions of drivers, mapped to errors of the library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from pend_storage.errors import ConfigError, SchemaOutOfDate, StoreUnavailable
from pend_storage.stores.postgres._connection.server_errors import (
    ConnectionLost,
    ServerRefusal,
)

__all__ = ["is_conflict", "sqlstate_of", "translated_errors"]

_REFUSED_BY_DATA: Final = frozenset({"23502", "23503", "23505", "23514", "22001"})
_OWNER: Final = (
    "Migrate as the owner of the database, or let its administrator grant or install "
    "what is missing"
)
_ADVICE: Final = {
    "42501": _OWNER,
    "0A000": _OWNER,
    "58P01": _OWNER,
    "3F": ("Grant the user create and usage on the schema, or correct postgres.schema"),
    "54": "Declare fewer fields, or fewer fields in one index",
    "42": (
        "Something in the database does not fit: rename or remove what another program "
        "or person made there, and migrate again"
    ),
}
"""Remedy by SQLSTATE or class, where a retry does not help."""


_LOCK_CONFLICTS: Final = frozenset({"55P03", "40P01"})
_MADE_TWICE: Final = frozenset(
    {
        "pg_namespace_nspname_index",
        "pg_class_relname_nsp_index",
        "pg_type_typname_nsp_index",
    }
)


@contextmanager
def translated_errors(store: str) -> Iterator[None]:
    """Map exceptions of drivers to errors of the library."""
    try:
        yield
    except ConnectionLost as lost:
        raise StoreUnavailable(lost.reason, store=store) from lost
    except DBAPIError as error:
        raise _public(error.orig, store) from error
    except psycopg.Error as error:
        raise _public(error, store) from error
    except SQLAlchemyError as error:
        raise StoreUnavailable(str(error), store=store) from error


def sqlstate_of(error: BaseException | None) -> str:
    """SQLSTATE of a driver's exception; empty if it has none."""
    return str(getattr(error, "sqlstate", None) or "")


def is_conflict(error: BaseException | None) -> bool:
    """Return whether a migration may succeed if it is begun again."""
    if sqlstate_of(error) in _LOCK_CONFLICTS:
        return True
    # Another migration has created the same schema or table at the same moment.
    diagnosis = getattr(error, "diag", None)
    return getattr(diagnosis, "constraint_name", None) in _MADE_TWICE


def _public(error: BaseException | None, store: str) -> Exception:
    code = sqlstate_of(error)
    message = (str(error).strip().splitlines() or ["no reason given"])[0]
    if code in _REFUSED_BY_DATA:
        return SchemaOutOfDate(
            f"{store}: records in the database do not fit the schema ({message}). "
            "Change them or the schema, and migrate again; nothing was changed."
        )
    advice = _ADVICE.get(code) or _ADVICE.get(code[:2])
    if advice is not None:
        return ConfigError(f"{store}: {message}. {advice}; nothing was changed.")
    if code:
        return ServerRefusal(code, message).public(store)
    return StoreUnavailable(message, store=store)
