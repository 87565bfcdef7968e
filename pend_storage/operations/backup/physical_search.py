"""Search for the physical backup that leads to a target, and for the server's words for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pend_storage._shown import shown
from pend_storage.backup._catalog import Catalog
from pend_storage.backup._manifest import BackupManifest
from pend_storage.backup._segments import read_segment
from pend_storage.backup._streams import Keys
from pend_storage.backup._target_grammar import (
    AtBackup,
    AtMark,
    AtSequence,
    AtTime,
    BeforeSequence,
    BeforeVersion,
    Latest,
    Target,
)
from pend_storage.backup.physical._base import facts_of
from pend_storage.backup.physical._targets import (
    NUMBERS_PER_TRANSACTION,
    OFFSET_META,
    RecoveryTarget,
    end_of_backup,
    end_of_log,
    named_point,
    sequence_target,
    time_target,
)
from pend_storage.config import Settings
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.store import Store

__all__ = ["Search"]


@dataclass(frozen=True, slots=True)
class Search:
    """Search for a backup that leads to a target, and for the server's own words for it."""

    settings: Settings
    catalog: Catalog
    keys: Keys
    live: Sequence[Store]

    def find(
        self, target: Target, backup: str | None
    ) -> tuple[BackupManifest, RecoveryTarget]:
        """Return the backup, and the target of the recovery.

        Raises:
            ConfigError: there is none that leads there.
        """
        if isinstance(target, AtBackup):
            return self._chosen(target.id), end_of_backup()
        sequence, inclusive = self._sequence(target)
        known = [self._chosen(backup)] if backup is not None else self._physical()
        if not known:
            raise ConfigError(
                "the repository has no physical backup of this environment. Make one: "
                "`backup create --kind physical`; or restore a snapshot, without --kind."
            )
        fitting = [each for each in known if _ends_before(each, target, sequence)]
        # Of the wrong ones, the earliest says best why there is none.
        chosen = fitting[-1] if fitting else known[0]
        return chosen, self._recovery(target, chosen, sequence, inclusive=inclusive)

    def _recovery(
        self,
        target: Target,
        chosen: BackupManifest,
        sequence: int | None,
        *,
        inclusive: bool,
    ) -> RecoveryTarget:
        if isinstance(target, Latest):
            return end_of_log()
        if isinstance(target, AtMark):
            return named_point(target.name)
        if isinstance(target, AtTime):
            end = datetime.fromisoformat(chosen.point.at)
            return time_target(target.at, backup_end=end)
        assert sequence is not None  # noqa: S101 - the other targets name a commit
        offset = facts_of(chosen).offset
        self._require_offset(offset)
        return sequence_target(
            sequence,
            inclusive=inclusive,
            offset=offset,
            backup_end=chosen.point.sequence,
            others=self._beside(sequence),
        )

    def _sequence(self, target: Target) -> tuple[int | None, bool]:
        if isinstance(target, AtSequence):
            return target.sequence, True
        if isinstance(target, BeforeSequence):
            return target.sequence, False
        if isinstance(target, BeforeVersion):
            for store in self.live:
                for change in store.record_history(target.collection, target.key):
                    if change.version == target.version:
                        return change.sequence, False
            raise ConfigError(
                f"no live store knows the commit that made version {target.version} of "
                f"{target.collection}[{shown(target.key)}]. Write its number: "
                "before:SEQUENCE."
            )
        return None, False

    def _chosen(self, backup: str) -> BackupManifest:
        found = self.catalog.backup(backup)
        facts_of(found)
        if found.environment != self.settings.environment:
            raise ConfigError(
                f"backup {found.id} is one of the environment {shown(found.environment)}. "
                "Choose that environment by --env."
            )
        return found

    def _physical(self) -> list[BackupManifest]:
        return [
            each
            for each in self.catalog.backups()
            if each.kind != "snapshot" and each.environment == self.settings.environment
        ]

    def _require_offset(self, offset: int) -> None:
        """Refuse numbers that lead to other transactions than at the time of the backup."""
        from pend_storage.stores.postgres import PostgresStore  # noqa: PLC0415 - optional

        for store in self.live:
            found = store.meta(OFFSET_META) or 0
            if isinstance(store, PostgresStore) and found != offset:
                raise ConfigError(
                    f"the numbers of the database were moved since the backup, from the "
                    f"offset {offset} to {found}: a number does not lead to one "
                    "transaction. Give a time, or restore a snapshot: without --kind."
                )

    def _beside(self, sequence: int) -> list[int]:
        """Return the known commits of the same transaction."""
        first = sequence // NUMBERS_PER_TRANSACTION * NUMBERS_PER_TRANSACTION
        last = first + NUMBERS_PER_TRANSACTION - 1
        found = {
            entry
            for segment in self.catalog.segments()
            if segment.after < last and segment.upto >= first
            for entry in (
                change.sequence
                for change in read_segment(self.catalog.repository, segment, self.keys)
            )
        }
        for store in self.live:
            found |= set(_numbers(store, first - 1, last))
        return [number for number in found if first <= number <= last]


def _numbers(store: Store, after: int, last: int) -> Iterable[int]:
    try:
        for change in store.changes(after):
            if change.sequence > last:
                return
            yield change.sequence
    except (ConfigError, StoreUnavailable):
        return


def _ends_before(backup: BackupManifest, target: Target, sequence: int | None) -> bool:
    if isinstance(target, AtTime):
        return datetime.fromisoformat(backup.point.at) < target.at
    return sequence is None or backup.point.sequence < sequence
