"""Own names: the schema of the database that holds a store's tables and functions.

SQL text is written once, for every store: before the name of a table or a function of
the library stands a mark, and the connection puts the name of the schema in its place.
So no statement depends on ``search_path``. The mark is NUL, which no SQL text may
contain: a statement whose mark was forgotten is refused before it is sent.
"""

from __future__ import annotations

import re
from typing import Final

from pend_storage._shown import shown
from pend_storage.errors import ConfigError

__all__ = [
    "DEFAULT_SCHEMA",
    "EQ",
    "GE",
    "GT",
    "LE",
    "LIKE",
    "LT",
    "MEMBER",
    "MEMBER_TEXT",
    "OWN",
    "OWN_SCHEMA",
    "SEARCH_PATH",
    "TIMES",
    "check_schema_name",
    "with_names",
]

OWN: Final = "\0"
"""Mark before the name of a table or a function of the library."""
OWN_SCHEMA: Final = "\1"
"""Mark in place of the name of the schema itself, in statements of a migration."""
DEFAULT_SCHEMA: Final = "public"
SEARCH_PATH: Final = "pg_catalog, pg_temp"
"""Path on which the library's functions and sessions look up all other names.

The schema of the store is not on it: a role that may create functions there could define
one that fits the types of a call better than the server's own. ``pg_temp`` is named,
because PostgreSQL would otherwise search it for tables and types before all others.
"""

# Statements do not rely on search_path either: behind a pooler no setting of a session
# holds. Where a column is of another type than the operator's own (varchar, smallint), an
# operator of another role would fit better than the server's, wherever it is on the path.
EQ: Final = "operator(pg_catalog.=)"
LT: Final = "operator(pg_catalog.<)"
LE: Final = "operator(pg_catalog.<=)"
GT: Final = "operator(pg_catalog.>)"
GE: Final = "operator(pg_catalog.>=)"
LIKE: Final = "operator(pg_catalog.~~)"
TIMES: Final = "operator(pg_catalog.*)"
MEMBER: Final = "operator(pg_catalog.->)"
MEMBER_TEXT: Final = "operator(pg_catalog.#>>)"

_NAME: Final = re.compile("[A-Za-z_][A-Za-z0-9_]{0,62}")


def check_schema_name(name: str) -> str:
    """Return the name of a schema, if it can hold the tables of a store.

    Raises:
        ConfigError: it is not a plain name, or it belongs to the server.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "the schema of the database is named by at most 63 letters, digits and "
            f"underscores, not {shown(name)}. Set postgres.schema to such a name."
        )
    if name.lower().startswith("pg_") or name.lower() == "information_schema":
        raise ConfigError(
            f"the schema {name} belongs to the server. Set postgres.schema to another "
            "name; the default is public."
        )
    return name


def with_names(text: str, schema: str) -> str:
    """Return SQL text with the name of the schema in place of each mark."""
    return text.replace(OWN, f'"{schema}".').replace(OWN_SCHEMA, f'"{schema}"')
