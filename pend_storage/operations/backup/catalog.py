"""Listing of the backups of an environment, and one of them in detail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from pend_storage.backup._catalog import Catalog, Damage, Fact
from pend_storage.backup._manifest import BackupManifest, Point
from pend_storage.backup._window import Window, chains, end_of, gaps, windows
from pend_storage.config import Settings
from pend_storage.operations.backup.opening import open_repository

__all__ = ["Detail", "Listed", "Listing", "State", "list_backups", "show_backup"]

State: TypeAlias = Literal["verified", "unverified", "damaged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Backup in a listing."""

    manifest: BackupManifest
    window: Window
    size: int
    """Bytes as stored."""
    state: State
    verified_at: datetime | None
    """Of the last verification that found no damage."""
    drilled_at: datetime | None
    """Of the last drill that was good."""
    pinned: bool
    log_faults: tuple[str, ...]
    """Damage of the log in its window, by the last verification: it can be restored to
    what lies before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Backups of an environment, and the archived log."""

    repository: str
    backups: tuple[Listed, ...]
    """Oldest first."""
    archive: Point | None
    """End of the archived log; None: nothing is archived."""
    gaps: tuple[str, ...]
    damaged: tuple[Damage, ...]
    interrupted: int
    """Objects of backups that were never published; the next one removes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """One backup, with the facts about it."""

    listed: Listed
    facts: tuple[Fact, ...]


def list_backups(settings: Settings) -> Listing:
    """List the backups of an environment.

    Raises:
        ConfigError: no repository is configured, or there is none, or a newer version has
            written it.
        StoreUnavailable: it cannot be reached.
    """
    repository = open_repository(settings)
    catalog = Catalog(repository)
    known = chains(catalog.segments())
    ends = [chain.last for chain in known]
    last = max(ends, key=lambda s: (s.epoch, s.upto), default=None)
    own = [b for b in catalog.backups() if b.environment == settings.environment]
    return Listing(
        repository=repository.url,
        backups=tuple(_listed(catalog, w) for w in windows(own, catalog.segments())),
        archive=None if last is None else end_of(last),
        gaps=tuple(gap.sentence for gap in gaps(known)),
        damaged=tuple(catalog.damaged()),
        interrupted=len(catalog.interrupted()),
    )


def show_backup(settings: Settings, backup_id: str) -> Detail:
    """Return one backup of the repository, of any environment.

    Args:
        settings: of the environment.
        backup_id: or a part of it that names only one.

    Raises:
        ConfigError: there is none, or more than one; and as :func:`list_backups`.
        StoreUnavailable: the repository cannot be reached.
    """
    catalog = Catalog(open_repository(settings))
    manifest = catalog.backup(backup_id)
    [window] = windows([manifest], catalog.segments())
    return Detail(
        listed=_listed(catalog, window), facts=tuple(catalog.facts(manifest.id))
    )


def _log_faults(fact: Fact) -> tuple[str, ...]:
    found = fact.detail.get("log")
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _listed(catalog: Catalog, window: Window) -> Listed:
    manifest = window.backup
    facts = catalog.facts(manifest.id)
    verified = [f for f in facts if f.kind == "verified"]
    good = [f.at for f in verified if f.ok]
    if manifest.verified_at is not None:
        good.append(datetime.fromisoformat(manifest.verified_at))
    drilled = [f.at for f in facts if f.kind == "drilled" and f.ok]
    pinned = [f for f in facts if f.kind == "pinned"]
    state: State = "verified" if good else "unverified"
    if verified and not verified[-1].ok:
        state = "damaged"
    return Listed(
        manifest=manifest,
        window=window,
        size=sum(part.size for part in manifest.parts),
        state=state,
        verified_at=max(good, default=None),
        drilled_at=max(drilled, default=None),
        pinned=pinned[-1].ok if pinned else manifest.kept,
        log_faults=_log_faults(verified[-1]) if verified else (),
    )
