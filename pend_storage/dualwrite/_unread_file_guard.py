"""Guard against unread legacy files, for a primary that does not refuse them itself.

PostgreSQL keeps no files, and a lookup for each read would cost a round trip. The unread
files are looked up once for each route, and once more before a call is refused: while such
a store is primary no file can become unread, and a file that any process has settled is
noticed in time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from pend_storage._layouts.layout import Layout
from pend_storage._layouts.unread_files import UnreadFiles, names_one
from pend_storage._model.records import Batch, Row
from pend_storage.errors import CorruptFile
from pend_storage.query import Condition
from pend_storage.store import Store, unread_in

__all__ = ["UnreadFileGuard"]

_Known: TypeAlias = tuple[Store, int | None, UnreadFiles]


class UnreadFileGuard:
    """Guard: refuses calls whose answer may lack an unread file. Safe to share."""

    def __init__(self, layouts: Iterable[Layout]) -> None:
        self._layouts: Final = {layout.file: layout for layout in layouts}
        self._known: _Known | None = None

    def _unread_files(self, store: Store, epoch: int | None) -> UnreadFiles | None:
        """Return the unread files; None where there are none, or the store refuses itself."""
        if store.refuses_unread or not self._layouts:
            return None
        known = self._known
        if known is None or known[0] is not store or known[1] != epoch:
            files = UnreadFiles(unread_in(store, self._layouts), self._layouts)
            known = self._known = (store, epoch, files)
        return known[2] if known[2].files else None

    def _check(
        self,
        store: Store,
        epoch: int | None,
        collections: Iterable[str],
        check: Callable[[UnreadFiles], None],
    ) -> None:
        unread = self._unread_files(store, epoch)
        if unread is None or not any(map(unread.concern, collections)):
            return
        try:
            check(unread)
        except CorruptFile:
            self._known = None
            again = self._unread_files(store, epoch)
            if again is not None:
                check(again)

    def require_rows(
        self,
        store: Store,
        epoch: int | None,
        collection: str,
        keys: Iterable[str],
        found: Mapping[str, Row],
    ) -> None:
        """Refuse an answer that may lack a row; as :meth:`UnreadFiles.require_rows`."""
        name = store.schema[collection].name
        self._check(store, epoch, (name,), lambda u: u.require_rows(name, keys, found))

    def require_all(
        self,
        store: Store,
        epoch: int | None,
        collection: str,
        where: Condition,
        found: int = 0,
    ) -> None:
        """Refuse an answer that may lack a record.

        Args:
            store: the primary.
            epoch: at which it is believed to be primary.
            collection: of the query or count.
            where: condition of the query or count.
            found: number of records in the answer.

        Raises:
            CorruptFile: the answer may lack a record of an unread file.
        """
        spec = store.schema[collection]

        def check(unread: UnreadFiles) -> None:
            refusal = unread.refusal(spec, where)
            if refusal is not None and not (found and names_one(spec, where)):
                raise refusal

        self._check(store, epoch, (spec.name,), check)

    def require_commit(self, store: Store, epoch: int | None, batch: Batch) -> None:
        """Refuse a commit that an unread file may contradict; see ``UnreadFiles``."""

        def find(collection: str, key: str) -> Any:
            row = store.read(collection, (key,), epoch=epoch).get(key)
            return None if row is None else row.record

        if self._unread_files(store, epoch) is not None:
            names = [o.collection for o in batch.operations]
            self._check(store, epoch, names, lambda u: u.require_commit(batch, find))
