"""Store of an environment: the pair, or the only store that is configured."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path

from pend_storage._cursor import CursorKey
from pend_storage._layouts.layout import Layout
from pend_storage._restored import require_usable
from pend_storage.config import Settings, settings_in_code
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.events import Event, Hook, Hooks, guarded, log_event
from pend_storage.factory._pair import DualWriteStore, open_pair
from pend_storage.factory._passive import has_begun
from pend_storage.factory._sides import (
    open_json,
    open_postgres,
    require_environment,
)
from pend_storage.instrumentation import Instruments
from pend_storage.instrumentation._timing import hook_of
from pend_storage.phases import Phase, Role
from pend_storage.schema import Schema
from pend_storage.store import Store

__all__ = ["open_primary", "open_store"]


def open_store(
    path: str | Path | None = None,
    *,
    environment: str | None = None,
    schema: Schema | str | None = None,
    layouts: Iterable[Layout] | None = None,
    json: str | Path | None = None,
    postgres: str | None = None,
    phase: Phase | str | None = None,
    create: bool = False,
    allow_foreign_owner: bool | None = None,
    hook: Hooks = log_event,
    cursor_key: CursorKey | str | None = None,
    instruments: Instruments | None = None,
) -> Store:
    """Open the store of a configured environment.

    With both sides configured it is a :class:`~pend_storage.DualWriteStore` in every
    phase: the roles in the stores decide the phase, and the configured one is only what is
    wanted. With one side it is that store alone.

    A server with a configuration of its own needs no file:
    ``open_store(schema=SCHEMA, layouts=LAYOUTS, json="data", postgres=url)``. Where a
    store is given like this and no file is named, only the arguments count. With a file,
    they replace its settings.

    Args:
        path: the configuration file; see :func:`~pend_storage.config.load_settings`.
        environment: which of its environments; without a file, its name.
        schema: the :class:`~pend_storage.Schema`, or the name of a module with ``SCHEMA``.
        layouts: of the legacy files; if None, those of the module.
        json: the JSON directory.
        postgres: URL of the database.
        phase: the phase that is wanted.
        create: make the JSON directory if it is missing. Otherwise a missing directory is
            an error, since it may be a mistyped one.
        allow_foreign_owner: let a process of root work on the directory of another user,
            and trust a configuration of another user; if None,
            ``PEND_ALLOW_FOREIGN_OWNER=1`` does. For bind mounts of containers.
        hook: gets every :class:`~pend_storage.Event` of the stores, of the pair with its
            long jobs, and of the watcher of the phase flag, in place of the default,
            which logs them; or several hooks: ``hook=[ps.log_event, mine]``. They are
            called in the thread where something happens, so they must be quick and
            thread-safe. An exception of a hook is logged once, and has no other effect.
        cursor_key: signs the cursors of pages, so that the store takes no others: a text of 32
            bytes at least, or a :class:`~pend_storage.CursorKey`. If None, the environment
            variable ``PEND_CURSOR_KEY``; without it cursors are not signed.
        instruments: get the duration of each call, and every event:
            :class:`~pend_storage.instrumentation.PrometheusInstruments`,
            :class:`~pend_storage.instrumentation.OpenTelemetryInstruments`, or some of your
            own. None: no clock is read for them.

    Raises:
        ConfigError: the configuration is wrong, or does not fit the stores.
        StoreUnavailable: the only store cannot be reached.
        SchemaOutOfDate: the database must be migrated first.
    """
    settings = settings_in_code(
        path,
        environment,
        schema=schema,
        layouts=layouts,
        json=json,
        postgres=postgres,
        phase=phase,
        allow_foreign_owner=allow_foreign_owner,
    )
    hook = guarded(hook)
    key = cursor_key or settings.cursor_key
    signed_by = CursorKey(key) if isinstance(key, str) else key
    store = _opened(settings, hook, instruments, create=create)
    store.cursor_key = signed_by
    return store


def _opened(
    settings: Settings, hook: Hook, instruments: Instruments | None, *, create: bool
) -> Store:
    if settings.json is None or settings.postgres is None:
        return _open_alone(settings, hook, instruments, create=create)
    store = open_pair(
        settings, serving=True, create=create, hook=hook, instruments=instruments
    )
    if not settings.auto_switch:
        _report_difference(settings, store, hook_of(hook, instruments))
    return store


def _open_alone(
    settings: Settings, hook: Hook, instruments: Instruments | None, *, create: bool
) -> Store:
    """Open the only store that is configured, if it may serve by itself."""
    if settings.phase.json_role is not Role.DETACHED:
        settings.require_json()
    if settings.phase.postgres_role is not Role.DETACHED:
        settings.require_postgres()
    with contextlib.ExitStack() as opened:
        store: Store
        if settings.json is not None:
            name, missing = "the JSON directory", "the database"
            store = opened.enter_context(
                open_json(settings, create=create, hook=hook, instruments=instruments)
            )
        else:
            name, missing = "the database", "the JSON directory"
            store = opened.enter_context(
                open_postgres(settings, hook=hook, instruments=instruments)
            )
            require_environment(settings, store)
        require_usable(store, f"{settings.place}: {name}")
        # A store that is secondary, fenced or detached would serve data that may be old,
        # and take commits that the primary never gets.
        state = store.role()
        if state.role is not Role.PRIMARY:
            raise ConfigError(
                f"{settings.place}: {name} is {state.role.value} at epoch {state.epoch}, "
                f"so it does not hold the truth by itself. Configure {missing}, too: "
                "with both, the store that is primary is found."
            )
        opened.pop_all()
    return store


def _report_difference(settings: Settings, store: DualWriteStore, hook: Hook) -> None:
    """Emit ``phase-differs`` where the stores are not in the configured phase."""
    with contextlib.suppress(PendStorageError):
        phase = store.phase
        if phase is not settings.phase:
            hook(
                Event(
                    "phase-differs",
                    f"the stores are in the phase {phase.value}, and {settings.place} "
                    f"wants {settings.phase.value}: pend-storage phase show",
                    logging.WARNING,
                    {"phase": phase.value, "wanted": settings.phase.value},
                )
            )


def open_primary(settings: Settings) -> Store:
    """Open the store from which the environment reads, in any phase.

    A pair without roles stays without them: then the configured phase decides which of
    its stores is opened.

    Raises:
        ConfigError: the store is not configured.
        StoreUnavailable: the store cannot be reached.
    """
    both = settings.json is not None and settings.postgres is not None
    if both and has_begun(settings):
        return open_pair(settings)
    if settings.phase.postgres_role is Role.PRIMARY:
        return open_postgres(settings)
    return open_json(settings)
