"""Recovery part of the contract: snapshots, bulk loading, histories of records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext

from pend_storage._model.snapshots import (
    KeyChange,
    SnapshotReader,
    StoredChange,
    StoredRow,
)
from pend_storage._recovery_defaults import (
    RecoverableStore,
    copy_and_replay,
    history_of,
    load_changes_by_apply,
    load_rows_by_apply,
)
from pend_storage.errors import ConfigError
from pend_storage.events import Progress

__all__ = ["RecoveryBackend"]


class RecoveryBackend:
    """Operations that backups and restores need of a store.

    The methods here work on every backend that has the abstract methods of
    :class:`~pend_storage.contract.StoreBackend`, except :meth:`reserve_numbers`. Override
    them where there is a quicker way.
    """

    def snapshot(self: RecoverableStore) -> AbstractContextManager[SnapshotReader]:
        """Open a snapshot: all rows, tombstones and meta at one exact position of the log.

        Every commit up to :attr:`SnapshotReader.point` is in it, and none after. Writers
        wait for milliseconds while it is begun, and not while it is read. Of a store that
        is not primary, its position is that of the newest row.

        This copies all rows into memory, and has the named values of role and identity
        only. A store must override it if its rows can be read before its change log has
        them.

        Raises:
            ConfigError: the user lacks a privilege, or the store has no snapshots.
            LockTimeout: the store lock was not granted in time.
            StoreUnavailable: it cannot be reached.
        """
        return nullcontext(copy_and_replay(self))

    def load_snapshot(
        self: RecoverableStore,
        rows: Iterable[tuple[str, StoredRow]],
        *,
        progress: Progress | None = None,
    ) -> int:
        """Fill an empty store with rows, as they are; nothing enters the change log.

        The quickest way that the store has: it may drop indexes and constraints, and must
        have them again, valid, when it returns. After an interruption, what is there is
        not usable: begin anew with an empty store.

        Args:
            rows: collection and row of each, grouped by collection.
            progress: called with the rows done, and 0: how many there are is not known.

        Returns:
            The number of rows, tombstones included.

        Raises:
            ConfigError: the store has rows, or a role; nothing was changed.
            CorruptFile: a body cannot be decoded, or is of another key.
            UnknownCollection: the schema has no such collection.
            StoreUnavailable: it cannot be reached, or the disk is full.
        """
        return load_rows_by_apply(self, rows, progress)

    def load_changes(self: RecoverableStore, changes: Iterable[StoredChange]) -> int:
        """Apply entries of a change log to a store that stands alone, each if it is newer.

        As :meth:`apply` does, for many entries: the state afterwards is that of the last.

        Args:
            changes: in the order of the log.

        Returns:
            The number of entries.

        Raises:
            ConfigError: the store has a role; nothing was changed.
            CorruptFile: a body cannot be decoded, or is of another key. Earlier entries
                may have been applied.
            UnknownCollection: the schema has no such collection.
            StoreUnavailable: it cannot be reached, or the disk is full.
        """
        return load_changes_by_apply(self, changes)

    def reserve_numbers(self, above: int) -> None:
        """Make sure that all later sequence numbers and versions lie above a number.

        The change log up to the store's present end stays readable as it is; a feed that
        was read up to any number at or below ``above`` sees every later commit.

        Args:
            above: the highest number that may have been given before; a lower one than
                the store's own changes nothing.

        Raises:
            ConfigError: the store cannot do it.
            StoreUnavailable: it cannot be reached.
        """
        raise ConfigError(
            f"{type(self).__name__} cannot reserve sequence numbers, so a restored store "
            f"might give numbers twice: nothing was changed up to {above}. Restore into a "
            "store that can, such as JsonStore or PostgresStore."
        )

    def record_history(
        self: RecoverableStore, collection: str, key: str, *, before: int | None = None
    ) -> Iterator[KeyChange]:
        """Iterate over the changes of one key in the change log, the newest first.

        As far back as the log is kept.

        Args:
            collection: name of the collection.
            key: of the record.
            before: only changes of commits below this sequence number; None: all.

        Raises:
            UnknownCollection: there is none of that name.
            StoreUnavailable: it cannot be reached.
        """
        name = self.schema[collection].name
        return history_of(self, name, key, before)
