"""Pair of stores: ``DualWriteStore`` with its jobs, and the pair of an environment."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from pend_storage import dualwrite
from pend_storage._audit_chain import seal
from pend_storage._audit_record import record_done
from pend_storage._model.attribution import actor, current_actor
from pend_storage._model.records import JSON
from pend_storage._restored import require_usable
from pend_storage.backfill import backfill
from pend_storage.config import Settings
from pend_storage.dualwrite import Finding, RepairReport, SwitchReport
from pend_storage.dualwrite._backup_fact import (
    BACKUP_MAX_AGE,
    BACKUP_META,
    age_problem,
    backup_problem,
)
from pend_storage.dualwrite._maintenance import Backfill, Validate
from pend_storage.dualwrite._pair import Pair
from pend_storage.dualwrite._pair_metadata import PairMetadata
from pend_storage.dualwrite._readiness import Check
from pend_storage.dualwrite._replication_position import is_empty
from pend_storage.dualwrite._roles import RolePair
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
    archive_hold,
    open_json,
    open_postgres,
    require_environment,
)
from pend_storage.flags import AutoSwitch, flag_source
from pend_storage.instrumentation import Instruments
from pend_storage.instrumentation._timing import hook_of
from pend_storage.phases import ROLE_META, Phase, Role, RoleState
from pend_storage.store import Store
from pend_storage.validation import validate

if TYPE_CHECKING:
    from pend_storage.stores.json import JsonStore
    from pend_storage.stores.postgres import PostgresStore

__all__ = [
    "ConfiguredPair",
    "DualWriteStore",
    "backup_blocker",
    "open_pair",
    "schema_blocker",
]

_OUT_OF_REACH = (StoreUnavailable, SchemaOutOfDate)
"""Errors of a database that is unreachable, or whose tables are not there yet. A pair with
a JSON primary can serve without it."""


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


def schema_blocker(settings: Settings, postgres: Store) -> str | None:
    """Return the blocker ``schema``: another environment's database, or schema."""
    try:
        require_environment(settings, postgres)
    except (ConfigError, SchemaOutOfDate) as error:
        return str(error)
    return None


def backup_blocker(
    settings: Settings, pair: Pair, values: PairMetadata, view: RolePair
) -> str | None:
    """Return the blocker ``backup``: none counts that was verified.

    Without a repository, the copy that ``migrate json`` makes of the directory counts as
    long as the directory is primary.

    Args:
        settings: of the environment.
        pair: both stores.
        values: of the pair.
        view: its roles.

    Raises:
        StoreUnavailable: a store cannot be reached.
    """
    wanted = settings.backup
    max_age = BACKUP_MAX_AGE if wanted is None else wanted.max_age
    if wanted is None and values.get(BACKUP_META) is None and view.primary == "json":
        migration = pair.postgres.meta(MIGRATION_META)
        copied = migration.get("verified_at") if isinstance(migration, Mapping) else 0
        if copied:
            at = datetime.fromisoformat(str(copied))
            return age_problem(at, max_age, what="the copy of the directory")
    found = backup_problem(pair, values, view, max_age=max_age)
    if found is None or wanted is not None:
        return found
    return (
        f"{found}. It needs a repository: [environments.{settings.environment}.backup] in "
        "pend.toml"
    )


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
        checks: dict[str, Check] = {
            "schema": lambda: schema_blocker(settings, postgres),
            "backup": self._backup_problem,
        }
        super().__init__(json=json, postgres=postgres, checks=checks, **options)

    @property
    def settings(self) -> Settings:
        """Settings of the environment."""
        return self._settings

    def _backup_problem(self) -> str | None:
        view = self._pair.read_roles()
        return backup_blocker(self._settings, self._pair, self._metadata, view)

    @override
    def switch(
        self,
        phase: Phase | str,
        *,
        accept: Iterable[str] = (),
        timeout: float = 30.0,
        by: str | None = None,
        reason: str | None = None,
    ) -> SwitchReport:
        """Switch to a phase, and enter it in the audit: see :meth:`DualWriteStore.switch`."""
        by = by or actor().by or current_actor()
        # The log of this primary proves entries that have no seal; the next one has none of them.
        with contextlib.suppress(PendStorageError):
            seal(self)
        done = super().switch(
            phase, accept=accept, timeout=timeout, by=by, reason=reason
        )
        if done.steps:
            details: dict[str, JSON] = {
                "before": done.before.value,
                "after": done.after.value,
                "epoch": str(done.epoch),
                "accepted": list(done.accepted),
                "pause_seconds": round(done.pause, 6),
            }
            record_done(self, "switch", by=by, reason=reason, details=details)
        return done

    @override
    def repair(
        self,
        *,
        dry_run: bool = False,
        by: str | None = None,
        reason: str | None = None,
    ) -> RepairReport:
        """Repair, and enter it in the audit: see :meth:`DualWriteStore.repair`."""
        by = by or actor().by or current_actor()
        report = super().repair(dry_run=dry_run, by=by, reason=reason)
        if not dry_run:
            counts: Counter[str] = Counter(repair.action for repair in report.repairs)
            record_done(self, "repair", by=by, reason=reason, details={**counts})
        return report

    @override
    def accept_divergences(
        self, ids: Iterable[str], *, by: str | None = None, reason: str
    ) -> tuple[Finding, ...]:
        """Accept findings, and enter it in the audit: see the method of the pair."""
        by = by or actor().by or current_actor()
        accepted = super().accept_divergences(ids, by=by, reason=reason)
        details: dict[str, JSON] = {"findings": [found.id for found in accepted]}
        record_done(self, "divergences.accept", by=by, reason=reason, details=details)
        return accepted

    def follow_flag(self, settings: Settings, hook: Hook) -> None:
        """Switch to the phase that the flag wants, now and at each of its changes.

        Raises:
            ConfigError: the configuration of the flag's source is unusable.
        """
        source = flag_source(settings)
        # Closed in reverse order: the watcher reads the source until its thread has ended.
        self._following.callback(source.close)
        following = AutoSwitch(
            self,
            source,
            hook,
            allowed=settings.auto_switch_allowed,
            least_pause=settings.auto_switch_pause,
        )
        self._following.callback(following.close)

    @override
    def close(self) -> None:
        self._following.close()  # before the stores: a switch may be under way
        super().close()


def open_pair(
    settings: Settings,
    *,
    serving: bool = False,
    create: bool = False,
    hook: Hooks = log_event,
    instruments: Instruments | None = None,
) -> ConfiguredPair:
    """Open JSON and PostgreSQL as one store.

    The roles in the stores decide which of them is primary; a fresh pair gets its first
    roles here. PostgreSQL may be unreachable where JSON is primary.

    Args:
        settings: of the environment; both sides must be configured.
        serving: for a long-running server: starts the relay, compared reads and, where it
            is configured, ``auto_switch``. A command does without them.
        create: make the JSON directory if it is missing.
        hook: gets the events of both stores, of the pair and of the flag's watcher; or
            several hooks.
        instruments: get the duration of each call, and every event.

    Raises:
        ConfigError: a side is not configured; the database belongs to another
            environment; the stores do not belong together any more.
        LockTimeout: another process holds the directory.
        CorruptFile: a file of the JSON store is damaged.
    """
    settings.require_postgres()
    hook = guarded(hook)
    with contextlib.ExitStack() as opened:
        json = opened.enter_context(
            open_json(settings, create=create, hook=hook, instruments=instruments)
        )
        postgres = opened.enter_context(
            open_postgres(settings, hook=hook, instruments=instruments)
        )
        require_usable(json, f"{settings.place}: the JSON directory")
        with contextlib.suppress(*_OUT_OF_REACH):
            require_environment(settings, postgres)
            require_usable(postgres, f"{settings.place}: the database")
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
            archive_hold=archive_hold(settings),
            begin=_first_phase(settings, json, postgres, hook),
            hook=hook,
            instruments=instruments,
        )
        # The pair closes both stores from now on. If the flag cannot be followed, only
        # the pair is left to close.
        opened.pop_all()
        opened.push(store)
        if serving and settings.auto_switch:
            store.follow_flag(settings, hook_of(hook, instruments))
        opened.pop_all()
    return store


def _first_phase(
    settings: Settings, json: Store, postgres: Store, hook: Hook
) -> Phase | None:
    """Return the first phase of a fresh pair; None: the data or the roles decide it.

    Where both stores were written to before they became a pair, the configured phase
    decides.
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
            {"phase": begin.value},
        )
    )
    return begin


def _is_written(store: Store) -> bool:
    try:
        return next(store.changes(), None) is not None
    except ChangesExpired:  # entries of the log were removed, so there were some
        return True


def _begin_alone(json: Store, error: PendStorageError, hook: Hook) -> None:
    """Make JSON the primary; PostgreSQL is attached when it can be reached.

    Without this, a server could not start before there is a database, though it needs none.
    """
    first = RoleState(Role.PRIMARY, 1).to_meta()
    if json.compare_and_set_meta(ROLE_META, None, first):
        hook(Event("pair-begun", f"JSON begins alone, because of PostgreSQL: {error}"))
