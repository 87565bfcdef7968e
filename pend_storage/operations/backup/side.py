"""Stores beside the live ones: where a restore goes, and what is compared with what."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pend_storage._extras import with_packages
from pend_storage._restored import note_of
from pend_storage._secrets import may_be_address
from pend_storage._shown import clause, listed
from pend_storage.backup._side_store import require_apart, require_new
from pend_storage.config import Settings
from pend_storage.config._database_url import shown_url, url_fault
from pend_storage.errors import ConfigError, SchemaOutOfDate, StoreUnavailable
from pend_storage.factory import load_schema, open_passive, open_postgres
from pend_storage.phases import ROLE_META
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore

if TYPE_CHECKING:
    from pend_storage.stores.postgres import PostgresStore

__all__ = [
    "SideAddress",
    "live_stores",
    "open_side_json",
    "open_side_postgres",
    "require_restored",
]

_RELATIONS: Final = """
    select c.relname from pg_catalog.pg_class as c
    where c.relnamespace = (select n.oid from pg_catalog.pg_namespace as n
                            where n.nspname = %s)
      and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
      and not exists (select from pg_catalog.pg_depend as d
                      where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                        and d.objid = c.oid and d.deptype = 'e')
    order by c.relname
"""
"""Tables, views and sequences of a schema, but for those of extensions."""


@dataclass(frozen=True, slots=True)
class SideAddress:
    """Address of a store beside the live one: a directory, or a schema of a database."""

    directory: Path | None = None
    url: str = ""
    """May hold a password: show :attr:`label`."""
    schema_name: str = "public"
    """Schema of the database."""

    @classmethod
    def parse(cls, text: str, schema_name: str | None = None) -> SideAddress:
        """Parse a directory or a URL.

        Args:
            text: as it is written.
            schema_name: schema of the database; None: ``public``.

        Raises:
            ConfigError: the URL is wrong, or a directory is given with a schema.
        """
        if "://" not in text:
            require_path(text)
            if schema_name is not None:
                raise ConfigError("--schema-name goes with the URL of a database only.")
            if not text:
                raise ConfigError("name a new directory, or the URL of a database.")
            return cls(directory=Path(text).absolute())
        fault = url_fault(text)
        if fault is not None:
            raise ConfigError(fault)
        return cls(url=text, schema_name=schema_name or "public")

    @property
    def label(self) -> str:
        """The address, without a password."""
        if self.directory is not None:
            return clause(str(self.directory))
        schema = "" if self.schema_name == "public" else f", schema {self.schema_name}"
        return f"{shown_url(self.url)}{schema}"


def require_path(text: str) -> None:
    """Refuse an address of a server in the place of a directory.

    Raises:
        ConfigError: it looks like one; it is not shown, because it may hold a password.
    """
    if may_be_address(text):
        raise ConfigError(
            "an address is not the name of a directory, and that of a database begins with "
            "postgresql://. A directory whose name has a : before an @ is written with a "
            "path before it: ./NAME"
        )


@contextlib.contextmanager
def live_stores(settings: Settings) -> Iterator[list[Store]]:
    """Open the stores of an environment for reading, as far as they answer.

    A restore is made when something is broken: a store that cannot be read is left out.
    """
    with open_passive(settings) as environment:
        yield list(environment.stores.values())


# -- a new store ----------------------------------------------------------------------------


def require_side(settings: Settings, side: SideAddress) -> None:
    """Refuse an address that is one of the environment's own, or where something is.

    Raises:
        ConfigError: it is in use, or not empty.
        StoreUnavailable: the database cannot be reached.
    """
    if side.directory is not None:
        if settings.json is not None:
            live = settings.json.directory
            require_apart(side.directory, live, "the JSON directory in use")
        folder = _folder_of_repository(settings)
        if folder is not None:
            require_apart(side.directory, folder, "the repository of the backups")
        require_new(side.directory)
        return
    with open_side_postgres(settings, side) as store:
        _require_other_database(settings, side, store)
        _require_empty(side, store)


def _folder_of_repository(settings: Settings) -> Path | None:
    if settings.backup is None:
        return None
    address = settings.backup.repository
    return None if "://" in address else Path(address)


def _require_other_database(
    settings: Settings, side: SideAddress, store: PostgresStore
) -> None:
    """Refuse the schema that is in use: by its address, and by what is behind it."""
    live = settings.postgres
    if live is None or live.schema != side.schema_name:
        return
    with open_postgres(settings) as database:
        same = database.name == store.name
        if not same:
            # A database without the tables of a store has no place: it is not in use.
            with contextlib.suppress(StoreUnavailable, SchemaOutOfDate):
                same = _place(database) == _place(store)
    if same:
        raise ConfigError(
            f"{side.label} is the database in use. A restore never touches it: name an empty "
            "database, or another schema of it by --schema-name; backup promote makes that "
            "the one in use."
        )


def _place(store: PostgresStore) -> list[str]:
    """Return system and database behind an address; the last part is a table.

    Raises:
        SchemaOutOfDate: the database has no tables of a store.
        StoreUnavailable: it cannot be reached.
    """
    system, _timeline, database, _table = store.incarnation().split("/")
    return [system, database]


def _require_empty(side: SideAddress, store: PostgresStore) -> None:
    """Refuse a schema with tables, other than those of an interrupted restore."""
    with with_packages():
        from pend_storage.stores.postgres import inspection  # noqa: PLC0415
    with inspection(side.url) as session:
        rows = session.execute(_RELATIONS, [side.schema_name]).fetchall()
    names = [str(row[0]) for row in rows]
    if not names:
        return
    report = store.inspect()
    if report.revision is not None and report.is_current:
        is_restored = note_of(store) is not None
        stands_alone = store.meta(ROLE_META) is None
        numbers = (*report.rows.values(), report.tombstones, report.changes)
        if is_restored or (stands_alone and not any(numbers)):
            return
    raise ConfigError(
        f"{side.label} is not empty: it has {listed(names, 5)}. A restore never replaces "
        "anything: make an empty database (CREATE DATABASE), or name a new schema of it by "
        "--schema-name."
    )


def require_restored(side: SideAddress, database: PostgresStore) -> None:
    """Refuse a database in which no store has ever been.

    Raises:
        ConfigError: it has none; the message says how to restore into it.
        StoreUnavailable: it cannot be reached.
    """
    if database.inspect().revision is None:
        raise ConfigError(
            f"{side.label} has no store: nothing was restored into it. Name the database of "
            "a restore, or restore into it: pend-storage backup restore --to latest "
            "--into URL"
        )


# -- opening --------------------------------------------------------------------------------


def open_side_json(settings: Settings, directory: Path) -> JsonStore:
    """Open a directory beside the live one; its legacy files are written at the close.

    Raises: as :func:`~pend_storage.factory.open_json`.
    """
    module = load_schema(settings)
    return JsonStore(
        module.schema,
        directory,
        layouts=module.layouts,
        checkpoint_interval=None,
        allow_foreign_owner=settings.allow_foreign_owner,
    )


def open_side_postgres(settings: Settings, side: SideAddress) -> PostgresStore:
    """Connect to a database beside the live one.

    Raises:
        ConfigError: the URL is wrong, or packages are missing.
    """
    with with_packages():
        from pend_storage.stores.postgres import PostgresStore  # noqa: PLC0415
    module = load_schema(settings)
    return PostgresStore(
        module.schema,
        side.url,
        layouts=module.layouts,
        database_schema=side.schema_name,
    )
