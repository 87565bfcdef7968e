"""Pair of stores: ``DualWriteStore`` with its jobs, and the pair of an environment."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from pend_storage import dualwrite
from pend_storage.backfill import backfill
from pend_storage.config import Settings
from pend_storage.dualwrite._maintenance import Backfill, Validate
from pend_storage.dualwrite._readiness import BACKUP_META
from pend_storage.dualwrite._replication_position import is_empty
from pend_storage.errors import (
    ChangesExpired,
    ConfigError,
    PendStorageError,
    SchemaOutOfDate,
    StoreUnavailable,
)
from pend_storage.events import Event, Hook, Hooks, guarded, log_event
from pend_storage.factory._sides import (
    MIGRATION_META,
    open_json,
    open_postgres,
    require_environment,
)
from pend_storage.flags import AutoSwitch, flag_source
from pend_storage.phases import ROLE_META, Phase, Role, RoleState
from pend_storage.store import Store
from pend_storage.validation import validate

if TYPE_CHECKING:
    from pend_storage.stores.json import JsonStore
    from pend_storage.stores.postgres import PostgresStore

__all__ = ["ConfiguredPair", "DualWriteStore", "open_pair"]

_OUT_OF_REACH = (StoreUnavailable, SchemaOutOfDate)


class DualWriteStore(dualwrite.DualWriteStore):
    """Replicate between a JSON store and a PostgreSQL store, and switch between phases.

    Any two stores that keep the contract and share a schema will do. A fresh pair starts
    ``json-only``; or ``postgres-only`` where PostgreSQL was written to before and JSON is
    empty.

    Nothing else need be wired: :meth:`backfill` copies by
    :func:`pend_storage.backfill.backfill`, and :meth:`validate` compares by
    :func:`pend_storage.validation.validate`, unless other functions are passed.
    """

    @override
    def _default_jobs(self) -> tuple[Backfill, Validate]:
        return backfill, validate


class ConfiguredPair(DualWriteStore):
    """Pair of an environment; with ``auto_switch`` it follows the phase flag."""

    def __init__(
        self,
        settings: Settings,
        json: JsonStore,
        postgres: PostgresStore,
        **options: Any,
    ) -> None:
        self.json = json
        self.postgres = postgres
        self._settings = settings
        self._following = contextlib.ExitStack()
        checks = {"schema": self._schema_problem, "backup": self._backup_problem}
        super().__init__(json=json, postgres=postgres, checks=checks, **options)

    def _schema_problem(self) -> str | None:
        """Blocker ``schema``: another environment's database, or another schema."""
        try:
            require_environment(self._settings, self.postgres)
        except (ConfigError, SchemaOutOfDate) as error:
            return str(error)
        return None

    def _backup_problem(self) -> str | None:
        """Blocker ``backup``: none was verified; the copy of ``migrate json`` is one."""
        if self.meta(BACKUP_META) is not None:
            return None
        migration = self.postgres.meta(MIGRATION_META)
        if isinstance(migration, Mapping) and migration.get("verified_at"):
            return None
        return (
            "no backup of this environment was verified: `pend-storage migrate json` "
            "makes a copy of the JSON directory and verifies it"
        )

    def follow_flag(self, settings: Settings, hook: Hook) -> None:
        """Move to the phase that the flag wants, now and whenever it changes.

        Raises:
            ConfigError: the place of the flag cannot be used.
        """
        source = flag_source(settings)
        self._following.callback(source.close)
        self._following.callback(AutoSwitch(self, source, hook).close)

    @override
    def close(self) -> None:
        self._following.close()  # first: it may be in the middle of a switch
        super().close()


def open_pair(
    settings: Settings,
    *,
    serving: bool = False,
    create: bool = False,
    hook: Hooks = log_event,
) -> ConfiguredPair:
    """Open JSON and PostgreSQL as one store.

    Which of them is primary is for their roles to say; a fresh pair is given its first
    ones. PostgreSQL may be out of reach where JSON is primary.

    Args:
        settings: of the environment; both sides must be configured.
        serving: for a server that stays: with a relay, compared reads and, where it is
            wanted, ``auto_switch``. A command does without them.
        create: make the JSON directory if it is missing.
        hook: gets the events of both stores, of the pair and of the flag's watcher; or
            several hooks.

    Raises:
        ConfigError: a side is not configured; the database belongs to another
            environment; the stores do not belong together any more.
        LockTimeout: another process holds the directory.
        CorruptFile: a file of the JSON store is damaged.
    """
    settings.require_postgres()
    hook = guarded(hook)
    with contextlib.ExitStack() as opened:
        json = opened.enter_context(open_json(settings, create=create, hook=hook))
        postgres = opened.enter_context(open_postgres(settings, hook=hook))
        with contextlib.suppress(*_OUT_OF_REACH):
            require_environment(settings, postgres)
        wanted = settings.dual_write
        store = ConfiguredPair(
            settings,
            json,
            postgres,
            secondary_timeout=wanted.secondary_timeout,
            compare=wanted.compare if serving else 0.0,
            ignore=wanted.ignore,
            switch_patience=wanted.switch_patience,
            relay_interval=wanted.relay_interval if serving else None,
            retention=timedelta(days=wanted.retention_days),
            begin=_beginning(settings, json, postgres, hook),
            hook=hook,
        )
        opened.pop_all()  # they are the pair's from now on
        opened.push(store)
        if serving and settings.auto_switch:
            store.follow_flag(settings, hook)
        opened.pop_all()
    return store


def _beginning(
    settings: Settings, json: Store, postgres: Store, hook: Hook
) -> Phase | None:
    """First phase of a fresh pair; None where the data decides it, or it is not fresh.

    Where both were written to before they met, the configured phase decides.
    """
    if json.meta(ROLE_META) is not None:
        return None
    postgres_first = settings.phase.postgres_role is Role.PRIMARY
    try:
        is_written = _is_written(postgres)
    except _OUT_OF_REACH as error:
        if not postgres_first:
            _begin_alone(json, error, hook)
        return None
    if settings.phase is Phase.POSTGRES_ONLY and not is_written and is_empty(json):
        return Phase.POSTGRES_ONLY
    if not is_written or is_empty(json):
        return None
    begin = Phase.POSTGRES_ONLY if postgres_first else Phase.JSON_ONLY
    hook(
        Event(
            "both-written",
            "JSON and PostgreSQL were both written to before they became a pair; the "
            f"phase in {settings.place} decides, so the pair begins {begin.value}",
            logging.WARNING,
        )
    )
    return begin


def _is_written(store: Store) -> bool:
    try:
        return next(store.changes(), None) is not None
    except ChangesExpired:
        return True


def _begin_alone(json: Store, error: PendStorageError, hook: Hook) -> None:
    """Make JSON primary; PostgreSQL joins it, detached, when it can be reached.

    Otherwise a server could not start before there is a database, though it needs none.
    """
    first = RoleState(Role.PRIMARY, 1).to_meta()
    if json.compare_and_set_meta(ROLE_META, None, first):
        hook(Event("pair-begun", f"JSON begins alone, because of PostgreSQL: {error}"))
