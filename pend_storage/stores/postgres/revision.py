"""Which schema a database has been migrated to, and whether that is ours."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

import msgspec
from typing_extensions import override

from pend_storage.errors import ConfigError, SchemaOutOfDate
from pend_storage.schema import Schema
from pend_storage.stores.postgres import statements
from pend_storage.stores.postgres.errors import ServerRefusal
from pend_storage.stores.postgres.functions import digest
from pend_storage.stores.postgres.link import Link, Statement

__all__ = ["CORE_REVISION", "KNOWN_REVISIONS", "SCHEMA_META", "Revision"]

KNOWN_REVISIONS: Final = ("0001", "0002", "0003")
"""Alembic revisions of the core tables that this library knows, oldest first."""
CORE_REVISION: Final = KNOWN_REVISIONS[-1]
SCHEMA_META: Final = "postgres.schema"
"""Name of the meta entry in which ``migrate()`` notes what it has made."""

_UNDEFINED_TABLE: Final = "42P01"
_LOOK: Final = Statement(
    b"select (select value from store_meta where name = $1),"
    b" current_setting('transaction_isolation')"
)


@dataclass(frozen=True)
class Revision:
    """What a database has been migrated to, or what a library would make of it."""

    core: str
    """Alembic revision of the core tables."""
    schema: str
    """Fingerprint of the user's schema."""
    functions: str
    """Digest of the functions in the database."""
    collections: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, schema: Schema) -> Revision:
        """What this library makes of a database."""
        return cls(CORE_REVISION, schema.fingerprint(), digest(schema), schema.names)

    @classmethod
    def from_json(cls, text: bytes | None) -> Revision | None:
        """What ``migrate()`` noted in a database; None if it never ran."""
        return None if text is None else msgspec.json.decode(text, type=cls)

    @classmethod
    def from_value(cls, value: Any) -> Revision:
        """What ``migrate()`` noted, as a JSON value."""
        return msgspec.convert(value, type=cls)

    def to_json(self) -> dict[str, Any]:
        """For noting it in a database."""
        return {**asdict(self), "collections": list(self.collections)}

    @override
    def __str__(self) -> str:
        return f"{self.core}/{self.schema}/{self.functions[:8]}"


def require_current(link: Link, schema: Schema, store: str) -> None:
    """Check a database before it is first used.

    Raises:
        SchemaOutOfDate: it is older, newer, or has never been migrated.
        ConfigError: its default isolation level would break promises.
    """
    wanted = Revision.of(schema)
    try:
        result = link.run(_LOOK, (SCHEMA_META.encode(),))
    except ServerRefusal as refusal:
        if refusal.code != _UNDEFINED_TABLE:
            raise
        raise SchemaOutOfDate(_never(store, wanted)) from refusal
    found = Revision.from_json(result.get_value(0, 0))
    if found is None:
        raise SchemaOutOfDate(_never(store, wanted))
    if found != wanted:
        raise SchemaOutOfDate(difference(store, found, wanted))
    isolation = (result.get_value(0, 1) or b"").decode()
    if isolation != "read committed":
        raise ConfigError(
            f"{store}: the default isolation level is {isolation!r}, on which checks "
            "would not see what they waited for. Set default_transaction_isolation to "
            "'read committed' for this database or user."
        )
    # Puts right what a restore into another server may have left behind.
    link.run(statements.HORIZON)


def _never(store: str, wanted: Revision) -> str:
    return (
        f"{store} has never been migrated (the library is at {wanted}). Run migrate() "
        "(pend-storage db migrate)."
    )


def difference(store: str, found: Revision, wanted: Revision) -> str:
    """What differs, and what to do about it."""
    facts = f"{store} is at revision {found}, the library at {wanted}"
    extra = sorted(set(found.collections) - set(wanted.collections))
    if found.core not in KNOWN_REVISIONS or extra:
        more = f" It also has the collections {', '.join(extra)}." if extra else ""
        return (
            f"{facts}: a newer program has migrated the database.{more} Update this "
            "program (or its schema); nothing was changed."
        )
    return (
        f"{facts}. If this program is the newer one, run migrate() (pend-storage db "
        "migrate), else update it."
    )
