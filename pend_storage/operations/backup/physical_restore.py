"""Restore of a physical backup: a server of its own, up to a target, sealed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pend_storage import crashpoints
from pend_storage._model.snapshots import RESTORED_META, LogPoint
from pend_storage.backup._catalog import Catalog
from pend_storage.backup._manifest import BackupManifest
from pend_storage.backup._repository import Repository
from pend_storage.backup._restore import USE
from pend_storage.backup._seal import begin_filling, highest_number, seal
from pend_storage.backup._streams import Keys
from pend_storage.backup._target_grammar import (
    AtSequence,
    BeforeSequence,
    Target,
    parse_target,
)
from pend_storage.backup.physical._base import facts_of
from pend_storage.backup.physical._combine import chain_of
from pend_storage.backup.physical._restore import (
    LogPlan,
    RestoredServer,
    plan_log,
    require_log,
    restore_server,
)
from pend_storage.backup.physical._side_server import PORT
from pend_storage.backup.physical._targets import (
    RecoveryTarget,
)
from pend_storage.backup.physical._tools import find_tools
from pend_storage.backup.physical._wal import WalArchive
from pend_storage.config import Settings
from pend_storage.errors import ChangesExpired, ConfigError, StoreUnavailable
from pend_storage.operations.backup.opening import keys_of, open_repository
from pend_storage.operations.backup.physical import libpq_settings
from pend_storage.operations.backup.physical_search import Search
from pend_storage.operations.backup.side import (
    SideAddress,
    live_stores,
    open_side_postgres,
)
from pend_storage.operations.progress import Stage, silent
from pend_storage.phases import IDENTITY_META, ROLE_META, RoleState
from pend_storage.store import Store

_SEALED: Final = crashpoints.declare(
    "restore.server-sealed",
    "the server runs and is sealed, and its directory says not so",
)

__all__ = ["ServerPlan", "ServerRestored", "restore_physical"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRestored:
    """Server that was restored; it runs, and its store is sealed."""

    directory: Path
    url: str
    """Of the environment's database in it. It has no password: only the owner of the
    directory can reach it."""
    backup: str
    target: str
    stopped: str
    """The server's own words about where it stopped."""
    timeline: int
    identity: str
    """Of the store whose past it is."""
    epoch: int
    sequence: int
    """Last commit in it."""
    beyond: tuple[int, ...]
    """Commits with a higher number than the target that are in it all the same: they
    committed before it."""
    gap: str | None
    """First segment that the archive lacks, where there is more behind it."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlan:
    """Plan of a restore: what a dry run finds."""

    backup: str
    chain: tuple[str, ...]
    """Backups that it needs, the full one first."""
    target: str
    log: LogPlan
    """Archived log that continues the backup."""


def restore_physical(
    settings: Settings,
    target: str,
    into: Path,
    *,
    backup: str | None = None,
    timeline: int | None = None,
    dry_run: bool = False,
    stage: Stage = silent,
) -> ServerRestored | ServerPlan:
    """Restore a physical backup into a new directory, as a server that runs beside the live one.

    After an interruption, call it again.

    Args:
        settings: of the environment.
        target: as for a snapshot; times and numbers must lie after the end of the backup.
        into: a directory that does not exist, is empty, or is what an interrupted restore
            left.
        backup: id of the backup; None: the newest that ends before the target.
        timeline: to follow; None: the newest that continues the backup.
        dry_run: only find what it would be.
        stage: gets the progress.

    Raises:
        ConfigError: the target cannot be reached, or the directory is taken.
        CorruptFile: a backup or the archived log is damaged.
        StoreUnavailable: the server failed, or the repository cannot be reached.
    """
    began = time.monotonic()
    wanted = parse_target(target)
    repository, keys = open_repository(settings), keys_of(settings)
    catalog = Catalog(repository)
    with live_stores(settings) as live:
        search = Search(settings, catalog, keys, live)
        chosen, recovery = search.find(wanted, backup)
        above = highest_number(_highest_archived(catalog), *live)
    if dry_run:
        return _plan(repository, keys, chosen, recovery, timeline)
    login = libpq_settings(settings)
    tools = find_tools(int(str(chosen.server).partition(".")[0]))
    with (
        repository.lease(f"{USE}{chosen.id}-{secrets.token_hex(4)}"),
        stage("restoring the server", unit="bytes"),
    ):
        made = restore_server(
            _chain(repository, chosen.id),  # read again, under the lease
            repository,
            keys,
            tools,
            recovery,
            into=into,
            login=login,
            timeline=timeline,
        )
    try:
        url = _url(made, login)
        with (
            stage("sealing it", unit="steps"),
            open_side_postgres(settings, _address(settings, url)) as store,
        ):
            point, beyond = _seal(
                store, chosen, (wanted, recovery), text=target, above=above
            )
    except BaseException:
        made.side.stop()
        raise
    _SEALED()
    made.side.complete()
    made.side.release()
    return ServerRestored(
        directory=made.side.directory,
        url=url,
        backup=chosen.id,
        target=target,
        stopped=made.recovered.stopped,
        timeline=made.recovered.timeline,
        identity=point.identity,
        epoch=point.epoch,
        sequence=point.sequence,
        beyond=beyond,
        gap=made.plan.gap,
        seconds=time.monotonic() - began,
    )


def _plan(
    repository: Repository,
    keys: Keys,
    chosen: BackupManifest,
    recovery: RecoveryTarget,
    timeline: int | None,
) -> ServerPlan:
    facts = facts_of(chosen)
    archive = WalArchive(repository, keys, facts.system)
    plan = plan_log(facts, archive, timeline=timeline)
    require_log(plan, recovery, chosen)
    chain = _chain(repository, chosen.id)
    return ServerPlan(
        backup=chosen.id,
        chain=tuple(each.id for each in chain),
        target=recovery.text,
        log=plan,
    )


def _chain(repository: Repository, backup: str) -> list[BackupManifest]:
    catalog = Catalog(repository)
    known = {each.id: each for each in catalog.backups()}
    return chain_of(catalog.backup(backup), known)


def _highest_archived(catalog: Catalog) -> int:
    numbers = [each.point.sequence for each in catalog.backups()]
    numbers += [each.upto for each in catalog.segments()]
    return max(numbers, default=0)


# -- the restored store ---------------------------------------------------------------------


def _url(made: RestoredServer, login: dict[str, Any]) -> str:
    user = quote(str(login.get("user") or ""), safe="")
    database = quote(str(login.get("dbname") or ""), safe="")
    place = quote(str(made.side.directory), safe="")
    at = f"{user}@" if user else ""
    return f"postgresql://{at}/{database}?host={place}&port={PORT}"


def _address(settings: Settings, url: str) -> SideAddress:
    return SideAddress(url=url, schema_name=settings.require_postgres().schema)


def _seal(
    store: Store,
    backup: BackupManifest,
    target: tuple[Target, RecoveryTarget],
    *,
    text: str,
    above: int,
) -> tuple[LogPoint, tuple[int, ...]]:
    """Compare the log of a restored store with the target, and seal the store."""
    role = RoleState.from_meta(store.meta(ROLE_META))
    numbers = _numbers_after(store, backup.point.sequence)
    beyond = _beyond(numbers, *target)
    last = numbers[-1] if numbers else min(store.head(), backup.point.sequence)
    identity = str(store.meta(IDENTITY_META) or backup.point.identity)
    point = LogPoint(identity=identity, epoch=role.epoch, sequence=last)
    # The copy has the role, and perhaps the note, of the store that it was copied from.
    for name in (RESTORED_META, ROLE_META):
        found = store.meta(name)
        if found is not None and not store.compare_and_set_meta(name, found, None):
            raise ConfigError("another process uses the restored server. End it.")
    begin_filling(store, source=point, backup=backup.id, target=text)
    seal(store, source=point, above=above, meta={}, backup=backup.id, target=text)
    return point, beyond


def _numbers_after(store: Store, after: int) -> list[int]:
    try:
        return [change.sequence for change in store.changes(after)]
    except ChangesExpired as error:
        return [change.sequence for change in store.changes(error.oldest)]


def _beyond(
    numbers: Sequence[int], target: Target, recovery: RecoveryTarget
) -> tuple[int, ...]:
    """Return what is in the log above the target.

    Raises:
        StoreUnavailable: the log shows that the recovery stopped elsewhere.
    """
    if isinstance(target, BeforeSequence):
        if target.sequence in numbers:
            raise StoreUnavailable(
                f"commit {target.sequence} is in it, so it did not stop {recovery.text}",
                store="restored server",
            )
        return tuple(number for number in numbers if number > target.sequence)
    if isinstance(target, AtSequence):
        if target.sequence not in numbers:
            raise StoreUnavailable(
                f"commit {target.sequence} is not in it, so it did not stop after it",
                store="restored server",
            )
        return tuple(number for number in numbers if number > target.sequence)
    return ()
