"""Schema revision: what a database was migrated to, compared with the library."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cache, lru_cache
from typing import Any, Final

import msgspec
from typing_extensions import override

from pend_storage.errors import ConfigError, PendStorageError, SchemaOutOfDate
from pend_storage.schema import Schema
from pend_storage.stores.postgres._client.connection_probe import (
    SCHEMA_META,
    probe_connection,
)
from pend_storage.stores.postgres._connection.connection import (
    LibpqConnection,
    Statement,
)
from pend_storage.stores.postgres._connection.own_names import EQ
from pend_storage.stores.postgres._connection.server_errors import ServerRefusal
from pend_storage.stores.postgres._connection.server_facts import ProbeResult
from pend_storage.stores.postgres._functions.definitions import digest

__all__ = [
    "CORE_REVISION",
    "KNOWN_REVISIONS",
    "SCHEMA_META",
    "Revision",
    "encoding_fault",
    "require_current",
]

KNOWN_REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005")
"""Alembic revisions of the core tables that this library knows, oldest first."""
CORE_REVISION: Final = KNOWN_REVISIONS[-1]

_MISSING: Final = frozenset({"42P01", "3F000"})
"""SQLSTATEs of a missing table and a missing schema; 42501: of one that is hidden."""
_HIDDEN: Final = "42501"
_ENCODING: Final = "UTF8"
_VISIBILITY: Final = Statement(
    f"""select (select n.nspname from pg_catalog.pg_namespace as n
                 where n.nspname {EQ} $1::pg_catalog.name),
               case when exists (select from pg_catalog.pg_namespace as n
                                  where n.nspname {EQ} $1::pg_catalog.name)
                    then pg_catalog.has_schema_privilege($1::text, 'usage'::text) end,
               current_user::text,
               (select pg_catalog.string_agg(n.nspname::text, ', '::text)
                  from pg_catalog.pg_class as c
                  join pg_catalog.pg_namespace as n on n.oid {EQ} c.relnamespace
                 where c.relname {EQ} 'store_meta'::pg_catalog.name)""".encode()
)


@dataclass(frozen=True)
class Revision:
    """Revision of a database, or of a library and its schema."""

    core: str
    """Alembic revision of the core tables."""
    schema: str
    """Fingerprint of the user's schema."""
    functions: str
    """Digest of the functions in the database."""
    collections: tuple[str, ...] = field(default=(), compare=False)
    module: str = field(default="", compare=False)
    """Module that declares the schema; empty if an older version migrated."""
    ancestors: tuple[str, ...] = field(default=(), compare=False)
    """Fingerprints of the schemas since which there were only additions."""
    library: str = field(default="", compare=False)
    """Digest of the functions that are independent of the schema."""

    @classmethod
    def of(cls, schema: Schema) -> Revision:
        """Revision that this library makes of a database."""
        fingerprint, functions = _digests_of(schema)
        return cls(
            CORE_REVISION,
            fingerprint,
            functions,
            schema.names,
            schema.module,
            library=_shared_functions_digest(),
        )

    @classmethod
    def from_json(cls, text: bytes | None) -> Revision | None:
        """Decode the revision that ``migrate()`` stored; None if it never ran."""
        return None if text is None else msgspec.json.decode(text, type=cls)

    @classmethod
    def from_value(cls, value: Any) -> Revision:
        """Convert the stored revision from a JSON value."""
        return msgspec.convert(value, type=cls)

    def to_json(self) -> dict[str, Any]:
        """Convert to a JSON value for ``store_meta``."""
        lists = {"collections": self.collections, "ancestors": self.ancestors}
        return {**asdict(self), **{name: list(value) for name, value in lists.items()}}

    def is_extension_of(self, other: Revision) -> bool:
        """Return whether programs of another revision can go on: only additions came since."""
        return (
            other.schema in self.ancestors
            and self.core == other.core
            and self.library == other.library
        )

    @override
    def __str__(self) -> str:
        return f"{self.core}/{self.schema}/{self.functions[:8]}"


# Each new connection asks for them, and the texts of all functions take milliseconds.
# Collections of a schema never change; programs have one schema or two.
@lru_cache(maxsize=8)
def _digests_of(schema: Schema) -> tuple[str, str]:
    return schema.fingerprint(), digest(schema)


@cache
def _shared_functions_digest() -> str:
    return digest(Schema([]))


def require_current(
    connection: LibpqConnection, schema: Schema, store: str
) -> ProbeResult:
    """Probe a new connection, and verify revision, encoding and isolation.

    Raises:
        SchemaOutOfDate: the database is older, newer, or has never been migrated.
        ConfigError: its encoding or its default isolation level would break promises,
            or the user cannot see its tables.
        ServerRefusal: the server refuses the probe.
        ConnectionLost: it did not answer.
    """
    wanted = Revision.of(schema)
    try:
        probed = probe_connection(connection)
    except ServerRefusal as refusal:
        if refusal.code not in _MISSING and refusal.code != _HIDDEN:
            raise
        if refusal.code == _HIDDEN and not _is_schema_hidden(connection):
            raise
        raise _missing_tables(connection, store, wanted) from refusal
    facts = probed.facts
    if fault := encoding_fault(facts.encoding):
        raise ConfigError(f"{store}: {fault}")
    found = Revision.from_json(probed.revision)
    if found is None:
        raise SchemaOutOfDate(_not_migrated(store, wanted))
    if found != wanted:
        if not found.is_extension_of(wanted):
            raise SchemaOutOfDate(describe_difference(store, found, wanted))
        probed = replace(probed, added_by=found.module or "a newer program")
    if facts.isolation != "read committed":
        raise ConfigError(
            f"{store}: the default isolation level is {facts.isolation!r}, on which "
            "checks would not see what they waited for. Set "
            "default_transaction_isolation to 'read committed' for this database or "
            "user."
        )
    return probed


def encoding_fault(encoding: str) -> str | None:
    """Fault of a ``server_encoding`` and its remedy; None for UTF8."""
    if encoding == _ENCODING:
        return None
    return (
        f"the database is encoded in {encoding}, which cannot hold every text or counts "
        "bytes for characters. Make one with: create database NAME encoding 'UTF8' "
        "template template0; and move the data there with pg_dump."
    )


def _is_schema_hidden(connection: LibpqConnection) -> bool:
    row = connection.execute(_VISIBILITY, (connection.schema.encode(),))
    return row.get_value(0, 1) == b"f"


def _missing_tables(
    connection: LibpqConnection, store: str, wanted: Revision
) -> PendStorageError:
    """Error for tables that do not exist, or are not visible to this user."""
    if fault := encoding_fault(connection.encoding):
        return ConfigError(f"{store}: {fault}")
    row = connection.execute(_VISIBILITY, (connection.schema.encode(),))
    schema, may_use, user, elsewhere = (
        (row.get_value(0, n) or b"").decode() for n in range(4)
    )
    wanted_schema = connection.schema
    if may_use == "f":
        return ConfigError(
            f"{store}: {user} may not use the schema {wanted_schema}. Run: grant usage on "
            f"schema {wanted_schema} to {user}; or correct postgres.schema."
        )
    if elsewhere and wanted_schema not in elsewhere.split(", "):
        return ConfigError(
            f"{store}: the tables are in the schema {elsewhere}, and not in "
            f"{wanted_schema}. Set postgres.schema (the argument database_schema) to "
            "the right one; search_path is not consulted."
        )
    if not schema:
        return SchemaOutOfDate(
            f"{store} has no schema {wanted_schema}, so it has never been migrated (the "
            f"library is at {wanted}). Run migrate() (pend-storage db migrate), or "
            "correct postgres.schema."
        )
    return SchemaOutOfDate(_not_migrated(store, wanted))


def _not_migrated(store: str, wanted: Revision) -> str:
    return (
        f"{store} has never been migrated (the library is at {wanted}). Run migrate() "
        "(pend-storage db migrate)."
    )


def describe_difference(store: str, found: Revision, wanted: Revision) -> str:
    """Describe how two revisions differ, and how to proceed."""
    facts = f"{store} is at revision {found}, the library at {wanted}"
    extra = sorted(set(found.collections) - set(wanted.collections))
    more = f" It also has the collections {', '.join(extra)}." if extra else ""
    if found.core not in KNOWN_REVISIONS:
        return (
            f"{facts}: a newer program has migrated the database.{more} Update this "
            "program (or its schema); nothing was changed."
        )
    if found.module not in {"", wanted.module}:
        return (
            f"{store} was migrated with the schema of {found.module}, and this program "
            f"has that of {wanted.module}.{more} {_resolution(found, extra)} (Revision {found}; "
            f"the library makes {wanted}.)"
        )
    if extra:
        return (
            f"{facts}: a newer program has migrated the database, or one with another "
            f"schema.{more} Update this program (or its schema). {_resolution(found, extra)}"
        )
    return (
        f"{facts}. If this program is the newer one, run migrate() (pend-storage db "
        "migrate), else update it."
    )


def _resolution(found: Revision, extra: list[str]) -> str:
    theirs = f" ({found.module})" if found.module else ""
    if not extra:
        return (
            f"If this program is the right one, run migrate() (pend-storage db migrate); "
            f"else set schema to the right module{theirs}. Nothing was changed."
        )
    return (
        f"If that was the wrong schema, drop what it made, as far as it is empty: "
        f"pend-storage db migrate --drop-empty. If it was the right one, set schema to "
        f"its module{theirs}. To delete collections with their records: --drop. Nothing "
        "was changed."
    )
