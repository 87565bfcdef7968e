"""Catalog: the backups and segments of a repository, derived from what is there."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec

from pend_storage._secrets import may_be_address
from pend_storage._shown import did_you_mean, shown
from pend_storage.backup._manifest import (
    FORMAT,
    BackupManifest,
    Part,
    SegmentManifest,
    require_format,
    unpack,
)
from pend_storage.backup._repository import Repository
from pend_storage.backup._segments import LOG
from pend_storage.errors import ConfigError, CorruptFile

__all__ = ["BACKUPS", "MANIFEST", "Catalog", "Damage", "Fact", "folder_of"]

BACKUPS: Final = "backups"
MANIFEST: Final = "manifest.json"
_FACTS: Final = "facts"
_LEAST_PREFIX: Final = 4
"""Characters of an id that are enough where they name one backup."""
_READERS: Final = 8
"""Threads that read manifests: each is one round trip to a bucket."""

M = TypeVar("M", BackupManifest, SegmentManifest)
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Object that is damaged, missing or unreadable."""

    name: str
    """Of the object."""
    reason: str
    backup: str | None = None
    """Backup that it belongs to; None: a segment of the log, or a fact."""
    affected: tuple[str, ...] = ()
    """Backups whose windows end before it, or that cannot be restored at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Fact about a backup that became known later."""

    kind: str
    """``verified``, ``drilled``, ``pinned``, ``failed``."""
    at: datetime
    """UTC."""
    ok: bool
    detail: dict[str, Any]


class _StoredFact(msgspec.Struct):
    format: int
    kind: str
    at: datetime
    ok: bool
    detail: dict[str, Any] = {}


def folder_of(backup_id: str) -> str:
    """Return the folder of a backup in a repository."""
    return f"{BACKUPS}/{backup_id}"


class Catalog:
    """Catalog of one repository, as it is when it is first asked; for one thread."""

    def __init__(self, repository: Repository) -> None:
        """Make a catalog.

        Args:
            repository: nothing of it is read before it is needed.
        """
        self.repository = repository
        self._damaged: dict[str, Damage] = {}

    # -- backups -------------------------------------------------------------------------

    def backups(self) -> list[BackupManifest]:
        """Return the complete backups, oldest first.

        Complete is what has a manifest with the right digest, and all parts with their
        sizes. The others are in :meth:`damaged`, or were interrupted.

        Raises:
            ConfigError: a newer version has written one, or a permission is missing.
            StoreUnavailable: the repository cannot be reached.
        """
        return list(self._backups)

    @functools.cached_property
    def _backups(self) -> tuple[BackupManifest, ...]:
        sizes = self._sizes(BACKUPS)
        names = [name for name in sizes if name.endswith(f"/{MANIFEST}")]
        found = self._manifests(names, BackupManifest)
        complete = [
            manifest
            for name, manifest in found
            if self._is_complete(manifest.parts, sizes, manifest.id)
            and self._is_at_home(name, f"{folder_of(manifest.id)}/{MANIFEST}")
        ]
        return tuple(sorted(complete, key=lambda m: (m.finished_at, m.id)))

    def backup(self, backup_id: str) -> BackupManifest:
        """Return a complete backup by its id, or a part of it that names only one.

        Raises:
            ConfigError: there is none, or more than one; or it is damaged.
        """
        known = {manifest.id: manifest for manifest in self._backups}
        if may_be_address(backup_id):  # not shown, because it may hold a password
            raise ConfigError(
                "an address is not the id of a backup; see: pend-storage backup list"
            )
        if backup_id in known:
            return known[backup_id]
        fitting = [name for name in known if backup_id in name]
        if len(backup_id) >= _LEAST_PREFIX and len(fitting) == 1:
            return known[fitting[0]]
        if len(fitting) > 1 and backup_id:
            raise ConfigError(
                f"{shown(backup_id)} names {len(fitting)} backups. Write more of the id; see: "
                "pend-storage backup list"
            )
        for damage in self.damaged():
            if damage.backup == backup_id:
                raise ConfigError(
                    f"the backup {shown(backup_id)} is damaged: {damage.name}: "
                    f"{damage.reason}. Choose another one; see: pend-storage backup list"
                )
        raise ConfigError(
            f"there is no backup {shown(backup_id)}{did_you_mean(backup_id, known)} See: "
            "pend-storage backup list"
        )

    def interrupted(self) -> list[str]:
        """Return the objects of backups that were never published."""
        names = self._sizes(BACKUPS)
        published = {n.split("/")[1] for n in names if n.endswith(f"/{MANIFEST}")}
        return [name for name in names if name.split("/")[1] not in published]

    # -- segments ------------------------------------------------------------------------

    def segments(self) -> list[SegmentManifest]:
        """Return the complete segments of the log, by epoch and sequence.

        Raises: as :meth:`backups`.
        """
        return list(self._segments)

    @functools.cached_property
    def _segments(self) -> tuple[SegmentManifest, ...]:
        sizes = self._sizes(LOG)
        names = [name for name in sizes if name.endswith(".json")]
        complete = [
            manifest
            for name, manifest in self._manifests(names, SegmentManifest)
            if self._is_complete((manifest.part,), sizes, None)
            and self._is_at_home(name, f"{LOG}/{manifest.id}.json")
        ]
        return tuple(sorted(complete, key=lambda m: (m.epoch, m.after, m.upto)))

    def damaged(self) -> list[Damage]:
        """Return what is damaged as far as manifests and sizes show it.

        Raises: as :meth:`backups`.
        """
        _ = self._backups, self._segments
        return sorted(self._damaged.values(), key=lambda d: d.name)

    # -- facts ---------------------------------------------------------------------------

    def facts(self, backup_id: str) -> list[Fact]:
        """Return the facts about a backup, oldest first; unreadable ones are left out.

        Raises:
            StoreUnavailable: the repository cannot be reached.
        """
        names = [n for n in self._fact_names if n.split("/")[1] == backup_id]
        found = [fact for fact in self._each(self._fact, names) if fact is not None]
        return sorted(found, key=lambda fact: fact.at)

    def add_fact(
        self, backup_id: str, kind: str, *, ok: bool, detail: dict[str, Any]
    ) -> Fact:
        """Add a fact about a backup.

        Raises:
            ConfigError: a permission is missing.
            StoreUnavailable: the repository cannot be reached, or is full.
        """
        at = datetime.now(UTC)
        stored = _StoredFact(FORMAT, kind, at, ok, detail)
        name = f"{_FACTS}/{backup_id}/{kind}-{at:%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(2)}.json"
        self.repository.put(name, [msgspec.json.encode(stored)], create_only=True)
        self.__dict__.pop("_fact_names", None)
        return Fact(kind=kind, at=at, ok=ok, detail=detail)

    @functools.cached_property
    def _fact_names(self) -> tuple[str, ...]:
        return tuple(found.name for found in self.repository.list(f"{_FACTS}/"))

    def _fact(self, name: str) -> Fact | None:
        try:
            text = self.repository.read(name)
            require_format(text, place=name)
            found = msgspec.json.decode(text, type=_StoredFact)
        except (FileNotFoundError, CorruptFile, msgspec.MsgspecError, RecursionError):
            return None  # what it says is made again by the next verification or drill
        return Fact(kind=found.kind, at=found.at, ok=found.ok, detail=found.detail)

    # -- reading -------------------------------------------------------------------------

    def _sizes(self, folder: str) -> dict[str, int]:
        return {found.name: found.size for found in self.repository.list(f"{folder}/")}

    def _manifests(self, names: Sequence[str], kind: type[M]) -> list[tuple[str, M]]:
        found = []
        for name, manifest in self._each(lambda n: self._manifest(n, kind), names):
            if isinstance(manifest, str):
                self._note(name, manifest, _backup_in(name))
            elif manifest is not None:
                found.append((name, manifest))
        return found

    def _manifest(self, name: str, kind: type[M]) -> tuple[str, M | str | None]:
        """Read one manifest; a text says why it is damaged."""
        try:
            return name, unpack(self.repository.read(name), kind, place=name)
        except FileNotFoundError:
            return name, None  # pruned since it was listed
        except CorruptFile as error:
            return name, error.reason

    def _each(self, function: Callable[[T], R], items: Sequence[T]) -> Iterable[R]:
        if len(items) < _READERS:
            return [function(item) for item in items]
        with ThreadPoolExecutor(_READERS) as readers:
            return list(readers.map(function, items))

    def _is_complete(
        self, parts: Iterable[Part], sizes: dict[str, int], owner: str | None
    ) -> bool:
        for part in parts:
            if part.name not in sizes:
                self._note(part.name, "it is missing", owner)
            elif sizes[part.name] != part.size:
                self._note(
                    part.name,
                    f"it has {sizes[part.name]:,} bytes, not {part.size:,}",
                    owner,
                )
            else:
                continue
            return False
        return True

    def _is_at_home(self, name: str, home: str) -> bool:
        if name != home:
            self._note(name, f"it is a copy of {home}", _backup_in(name))
        return name == home

    def _note(self, name: str, reason: str, backup: str | None) -> None:
        self._damaged[name] = Damage(name=name, reason=reason, backup=backup)


def _backup_in(name: str) -> str | None:
    """Return the id of the backup in the name of an object; None: it is of the log."""
    folder, _, rest = name.partition("/")
    return rest.split("/")[0] if folder == BACKUPS else None
