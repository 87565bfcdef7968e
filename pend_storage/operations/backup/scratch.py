"""Throw-away stores of drills: removed at the end, and by the next drill after a death."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pend_storage._extras import with_packages
from pend_storage._files.directory import Directory
from pend_storage._files.failures import translate
from pend_storage.backup._repository import Repository
from pend_storage.config import Settings
from pend_storage.errors import ConfigError
from pend_storage.operations.backup.side import (
    SideAddress,
    open_side_json,
    open_side_postgres,
    require_path,
)
from pend_storage.store import Store

if TYPE_CHECKING:
    from pend_storage.stores.postgres import PostgresStore

__all__ = ["Scratch", "scratch_store"]

_PREFIX: Final = "pend-drill-"
_SCHEMA: Final = "pend_drill_"


@dataclass(frozen=True, slots=True)
class Scratch:
    """Throw-away store that can be opened again and again."""

    label: str
    """Where it is, without a password."""
    open: Callable[[], AbstractContextManager[Store]]
    prepare: Callable[[], None]
    """Brings an empty database to the schema."""


@contextlib.contextmanager
def scratch_store(
    settings: Settings, repository: Repository, into: str | None
) -> Iterator[Scratch]:
    """Make a throw-away store, and remove it at the end.

    The caller holds the lease of drills: what an earlier drill has left is removed first.

    Args:
        settings: of the environment.
        repository: of the backups.
        into: folder in which a directory is made, or URL of a database in which a schema
            is made; None: the folder for temporary files.

    Raises:
        ConfigError: the place cannot be used.
        StoreUnavailable: the database cannot be reached.
    """
    if into is not None and "://" in into:
        with _in_database(settings, repository, into) as made:
            yield made
    else:
        require_path(into or "")
        folder = Path(tempfile.gettempdir() if into is None else into).absolute()
        with _in_folder(settings, folder) as made:
            yield made


@contextlib.contextmanager
def _in_folder(settings: Settings, place: Path) -> Iterator[Scratch]:
    try:
        parent = Directory(place)
    except OSError as error:
        raise ConfigError(
            f"{place}: {error.strerror}. Name a folder that exists by --into."
        ) from error
    with parent:
        _remove_left(parent)
        name = f"{_PREFIX}{secrets.token_hex(8)}"
        try:
            made = parent.make_directory(name)
        except OSError as error:
            raise translate(error, place / name) from error
        try:
            # Held as long as the drill lives: by it, the next one knows that it does.
            fcntl.flock(made.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The store is in a folder of its own: the lock is not among its files.
            made.make_directory("data").close()
            path = made.path / "data"

            def opened() -> AbstractContextManager[Store]:
                return open_side_json(settings, path)

            yield Scratch(str(made.path), opened, lambda: None)
        finally:
            made.close()
            with contextlib.suppress(OSError):
                parent.remove_tree(name)


def _remove_left(parent: Directory) -> None:
    """Remove the folders of drills whose process has ended: their locks are free."""
    for name in parent.names():
        if not name.startswith(_PREFIX):
            continue
        status = parent.find(name)
        if (
            status is None
            or not stat.S_ISDIR(status.st_mode)
            or status.st_uid != os.geteuid()
        ):
            continue
        with contextlib.suppress(OSError, ConfigError), parent.directory(name) as left:
            fcntl.flock(left.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            parent.remove_tree(name)


@contextlib.contextmanager
def _in_database(
    settings: Settings, repository: Repository, url: str
) -> Iterator[Scratch]:
    """Make a schema whose name only the drills of this repository have."""
    origin = repository.read("repository.json") + settings.environment.encode()
    name = _SCHEMA + hashlib.sha256(origin).hexdigest()[:16]
    side = SideAddress.parse(url, name)

    def opened() -> AbstractContextManager[PostgresStore]:
        return open_side_postgres(settings, side)

    def prepare() -> None:
        with opened() as store:
            store.migrate()

    _drop(url, name)
    try:
        yield Scratch(side.label, opened, prepare)
    finally:
        _drop(url, name)


def _drop(url: str, name: str) -> None:
    with with_packages():
        from pend_storage.stores.postgres import inspection  # noqa: PLC0415 - optional
    # The name has a fixed beginning, and hexadecimal digits: nothing needs to be quoted.
    with inspection(url) as session:
        session.execute(f"drop schema if exists {name} cascade")
