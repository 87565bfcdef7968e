"""Read-only stores: the verbs that change something are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NoReturn

from typing_extensions import override

from pend_storage._model.records import JSON, Advance, Batch, ChangedRecord
from pend_storage._model.snapshots import StoredChange, StoredRow
from pend_storage._shown import shown
from pend_storage._whole_files.exclusive_use import IsHeld
from pend_storage.errors import ConfigError
from pend_storage.events import Progress
from pend_storage.phases import IDENTITY_META
from pend_storage.store import Store

__all__ = ["ReadOnlyStore"]


class ReadOnlyStore(Store):
    """Store that is open for reading only.

    Every verb that would change something raises :class:`~pend_storage.errors.ConfigError`.
    The identity of a store that has none yet is empty: to make one would be a change.
    """

    def _refuse(self) -> NoReturn:
        raise ConfigError(
            f"{shown(self)} is open for reading only, so nothing was changed. Open the store "
            "itself to change it."
        )

    @override
    def identity(self) -> str:
        return str(self.meta(IDENTITY_META) or "")

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        self._refuse()

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        self._refuse()

    @override
    def compare_and_set_meta(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        *,
        given: Mapping[str, JSON] | None = None,
    ) -> bool:
        self._refuse()

    @override
    def lock(self, name: str, timeout: float) -> AbstractContextManager[IsHeld]:
        self._refuse()

    @override
    def prune(self, upto: int) -> None:
        self._refuse()

    @override
    def hold_log(self, passed: Callable[[], int | None]) -> None:
        self._refuse()

    @override
    def purge(
        self, collection: str, keys: Iterable[str], *, tombstones: bool = True
    ) -> bool:
        self._refuse()

    @override
    def load_snapshot(
        self, rows: Iterable[tuple[str, StoredRow]], *, progress: Progress | None = None
    ) -> int:
        self._refuse()

    @override
    def load_changes(self, changes: Iterable[StoredChange]) -> int:
        self._refuse()

    @override
    def reserve_numbers(self, above: int) -> None:
        self._refuse()
