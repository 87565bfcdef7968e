"""Pruning of the database's change log, by a role that may delete from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pend_storage.config import Settings
from pend_storage.dualwrite._log_pruning import prune_old
from pend_storage.dualwrite._replication_position import ReplicationPosition
from pend_storage.errors import ConfigError
from pend_storage.events import log_event
from pend_storage.factory import archive_hold, open_json, open_postgres
from pend_storage.operations.jobs import running_job
from pend_storage.operations.marks import marked
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.store import Store
from pend_storage.stores.json import has_store
from pend_storage.stores.postgres import PostgresStore, inspection
from pend_storage.stores.postgres._privileges import may_prune

__all__ = ["Pruned", "prune_log"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """Result of a pruning."""

    pruned: int
    """Entries deleted."""
    before: datetime
    """Time before which entries were deleted, where the other store has applied them."""


def prune_log(
    settings: Settings, *, by: str | None = None, reason: str | None = None
) -> Pruned:
    """Prune entries that are older than the retention and applied by the other store.

    Args:
        settings: of the environment; its role must be the archiver's or the owner's.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; the job keeps it.

    Raises:
        ConfigError: no database is configured, the role may not delete from the log, or
            what JSON has applied cannot be known here.
        StoreUnavailable: one of the stores cannot be reached.
    """
    wanted = settings.require_postgres()
    with inspection(wanted.full_url, connect_timeout=wanted.connect_timeout) as session:
        if not may_prune(session, wanted.schema):
            raise ConfigError(
                f"{wanted.shown_url}: this role has no right to prune the change log. Run the "
                "command as the archiver or the owner: pend-storage db grants names them."
            )
    retention = timedelta(days=settings.dual_write.retention_days)
    with (
        marked(settings, "db-prune"),
        open_postgres(settings) as postgres,
        running_job(postgres, "prune", by=by, reason=reason, can_wait=False) as job,
    ):
        count = prune_old(
            postgres,
            _applied(settings, postgres),
            retention=retention,
            archive_hold=archive_hold(settings),
            hook=log_event,
        )
        job.finish(f"{count:,} entries of the change log pruned")
        return Pruned(pruned=count, before=datetime.now(UTC) - retention)


def _applied(settings: Settings, postgres: PostgresStore) -> int | None:
    """Return the sequence number that JSON has applied; None where JSON needs no entry."""
    if settings.json is not None and has_store(settings.json.directory):
        with open_json(settings) as json:
            return _kept_for(json, postgres)
    role = postgres.meta(ROLE_META)
    if role is None:
        return None  # it stands alone
    raise ConfigError(
        f"{settings.place}: what the JSON store has applied of the change log can only be "
        "known where its directory is. Run the command on that machine."
    )


def _kept_for(json: Store, postgres: PostgresStore) -> int | None:
    role = RoleState.from_meta(json.meta(ROLE_META)).role
    position = ReplicationPosition.load(json)
    if role is Role.DETACHED:
        return None
    if position is None or position.source != postgres.identity():
        return 0 if role is Role.SECONDARY else None
    # The entry at the position stays: by it the log is recognised.
    return position.sequence - 1
