"""Away store: stands for a store that cannot be opened, and raises the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NoReturn

from typing_extensions import override

from pend_storage._layouts.layout import Layout
from pend_storage._model.records import (
    JSON,
    Advance,
    Batch,
    Change,
    ChangedRecord,
    Row,
)
from pend_storage.errors import (
    PendStorageError,
    SchemaOutOfDate,
    StoreUnavailable,
    own_copy,
)
from pend_storage.query import Condition, Query
from pend_storage.schema import Schema
from pend_storage.store import Store

__all__ = ["AwayStore"]


class AwayStore(Store):
    """Store of a pair that is out of reach: every verb raises why."""

    def __init__(
        self,
        schema: Schema,
        error: PendStorageError,
        *,
        name: str,
        layouts: Sequence[Layout] = (),
    ) -> None:
        """Stand for a store.

        Args:
            schema: the collections.
            error: why it cannot be opened. One of another kind than those of a store that
                is out of reach is raised as ``StoreUnavailable``, with its sentence.
            name: of the store, in errors.
            layouts: of the legacy files.
        """
        self.schema = schema
        self.layouts = tuple(layouts)
        if not isinstance(error, StoreUnavailable | SchemaOutOfDate):
            error = StoreUnavailable(str(error), store=name)
        self._error = error

    def _refuse(self) -> NoReturn:
        raise own_copy(self._error)

    @override
    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        self._refuse()

    @override
    def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        self._refuse()

    @override
    def count(
        self, collection: str, where: Condition, *, epoch: int | None = None
    ) -> int:
        self._refuse()

    @override
    def scan(
        self,
        collection: str,
        *,
        after: str | None = None,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Row]:
        self._refuse()

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
    def changes(self, after: int = 0) -> Iterator[Change]:
        self._refuse()

    @override
    def meta(self, name: str) -> JSON:
        self._refuse()

    @override
    def incarnation(self) -> str:
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
    def close(self) -> None:
        """Do nothing: nothing is open."""
