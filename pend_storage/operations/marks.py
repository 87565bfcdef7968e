"""Named marks before steps of an operator: to restore to if the step is regretted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

from pend_storage._model.marks import automatic_name
from pend_storage.backup._marks import Mark, set_mark
from pend_storage.config import Settings
from pend_storage.errors import PendStorageError
from pend_storage.events import Event
from pend_storage.factory import has_begun, open_json, open_pair, open_postgres
from pend_storage.phases import Role
from pend_storage.store import Store
from pend_storage.stores.json import has_store

__all__ = ["mark", "mark_before", "marked", "primary_of"]


def mark(settings: Settings, name: str) -> Mark:
    """Mark the present position of an environment by a name.

    Where the database lets this role do it, it gets a restore point of that name, too.

    Args:
        settings: of the environment.
        name: letters, digits and ``. _ : + -``; an earlier mark of it is replaced.

    Raises:
        ConfigError: it is no name, or no store is configured.
        SchemaOutOfDate: a store must be migrated first.
        StoreUnavailable: a store cannot be reached.
    """
    with ExitStack() as opened:
        values, log = primary_of(settings, opened)
        made = set_mark(values, log, name)
    _make_restore_point(settings, name)
    return made


def mark_before(settings: Settings, step: str) -> bool:
    """Mark the position before a step; False where that is not possible.

    Args:
        settings: of the environment.
        step: short name of it, such as ``migrate-json``.
    """
    return _try_mark(settings, automatic_name(step, datetime.now(UTC)))


@contextlib.contextmanager
def marked(settings: Settings, step: str) -> Iterator[None]:
    """Mark the position before a step, which is never held up by that.

    Where the step makes the store readable in the first place, as a migration does, the
    position is marked after it.

    Args:
        settings: of the environment.
        step: short name of it, such as ``migrate``.
    """
    name = automatic_name(step, datetime.now(UTC))
    is_made = _try_mark(settings, name)
    yield
    if not is_made:
        _try_mark(settings, name)


def _try_mark(settings: Settings, name: str) -> bool:
    try:
        mark(settings, name)
    except (PendStorageError, OSError):
        return False
    return True


def primary_of(settings: Settings, opened: ExitStack) -> tuple[Store, Store]:
    """Open what keeps shared values, and the store that commits; nothing is begun by that.

    Args:
        settings: of the environment.
        opened: closes them.

    Raises:
        ConfigError: no store is configured.
        SchemaOutOfDate: a store must be migrated first.
        StoreUnavailable: a store cannot be reached.
    """
    directory = None if settings.json is None else settings.json.directory
    is_there = directory is not None and has_store(directory)
    if is_there and settings.postgres is not None and has_begun(settings):
        pair = opened.enter_context(open_pair(settings, hook=_ignore))
        side = pair.roles().primary
        return pair, pair.postgres if side == "postgres" else pair.json
    if is_there and settings.phase.json_role is not Role.DETACHED:
        store: Store = opened.enter_context(open_json(settings, hook=_ignore))
    else:
        store = opened.enter_context(open_postgres(settings, hook=_ignore))
    return store, store


def _ignore(_event: Event) -> None:
    """Drop an event: the command that follows emits it as well."""


def _make_restore_point(settings: Settings, name: str) -> None:
    """Make a restore point of the server, where the role may: few have the privilege."""
    if settings.postgres is None:
        return
    with contextlib.suppress(PendStorageError, ImportError):
        import psycopg  # noqa: PLC0415 - an optional package

        from pend_storage.stores.postgres import inspection  # noqa: PLC0415

        wanted = settings.postgres
        with (
            contextlib.suppress(psycopg.Error),
            inspection(
                wanted.full_url, connect_timeout=wanted.connect_timeout
            ) as session,
        ):
            session.execute("select pg_create_restore_point(%s)", [name])
