"""Recovery defaults: snapshot, loading and history of a store by its required verbs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from typing_extensions import override

from pend_storage._model.records import JSON, Change, ChangedRecord, Row
from pend_storage._model.snapshots import (
    RESTORED_META,
    KeyChange,
    LogPoint,
    SnapshotReader,
    StoredChange,
    StoredRow,
)
from pend_storage._shown import shown
from pend_storage.errors import (
    ChangesExpired,
    ConfigError,
    CorruptFile,
    StoreUnavailable,
)
from pend_storage.events import Progress
from pend_storage.phases import IDENTITY_META, ROLE_META, RoleState
from pend_storage.schema import CollectionSpec, Schema

__all__ = [
    "RecoverableStore",
    "copy_and_replay",
    "decode_stored",
    "history_of",
    "key_changes",
    "load_changes_by_apply",
    "load_rows_by_apply",
    "refusal_of_role",
    "refusal_of_rows",
]

_BATCH: Final = 2_000
"""Rows that one ``apply`` takes."""
_MOST_KEPT: Final = 1_000
"""Changes of one key that are in memory at a time; for older ones the log is read again."""
_ATTEMPTS: Final = 5
_NAMED: Final = (ROLE_META, IDENTITY_META, RESTORED_META)
"""Named values of a snapshot: a store cannot be asked for the names of all."""


class RecoverableStore(Protocol):
    """Verbs of a store that the defaults call."""

    schema: Schema

    def scan(self, collection: str, *, deleted: bool = ...) -> Iterator[Row]:
        """As :meth:`StoreBackend.scan`."""

    def apply(self, records: Sequence[ChangedRecord]) -> int:
        """As :meth:`StoreBackend.apply`."""

    def changes(self, after: int = ...) -> Iterator[Change]:
        """As :meth:`StoreBackend.changes`."""

    def head(self) -> int:
        """As :meth:`StoreBackend.head`."""

    def meta(self, name: str) -> JSON:
        """As :meth:`StoreBackend.meta`."""

    def identity(self) -> str:
        """As :meth:`StoreBackend.identity`."""

    def role(self) -> RoleState:
        """As :meth:`StoreBackend.role`."""


# -- snapshots ------------------------------------------------------------------------


class _CopiedRows(SnapshotReader):
    """Snapshot whose rows are in memory."""

    def __init__(
        self,
        schema: Schema,
        rows: Mapping[str, Mapping[str, StoredRow]],
        point: LogPoint,
        at: datetime,
        meta: Mapping[str, JSON],
    ) -> None:
        self._schema = schema
        self._rows = rows
        self.point = point
        self.at = at
        self.meta = meta

    @override
    def rows(self, collection: str) -> Iterator[StoredRow]:
        yield from self._rows[self._schema[collection].name].values()


def copy_and_replay(store: RecoverableStore) -> SnapshotReader:
    """Copy all rows into memory, and bring the copy to one position of the log.

    A scan is not of one instant. So the commits since its beginning are applied to the
    copy, each if it is newer. That is exact where an entry of the log can be read as soon
    as its rows can.

    Raises:
        StoreUnavailable: its role changed at each attempt, or it cannot be reached.
    """
    for _ in range(_ATTEMPTS):
        role = store.role()
        found = _copied(store, role)
        if store.role() == role:
            return found
    raise StoreUnavailable(
        "its role changed while its rows were copied. Repeat it after the switch",
        store=type(store).__name__,
    )


def _copied(store: RecoverableStore, role: RoleState) -> SnapshotReader:
    identity, at, upto = store.identity(), datetime.now(UTC), store.head()
    after = upto
    rows = {
        spec.name: {
            row.key: _encoded(spec, row) for row in store.scan(spec.name, deleted=True)
        }
        for spec in store.schema
    }
    for change in store.changes(after):
        upto, at = change.sequence, change.at
        for record in change.records:
            table = rows[record.collection]
            known = table.get(record.key)
            if known is None or known.version < record.version:
                spec = store.schema[record.collection]
                table[record.key] = _encoded(spec, Row(*record[1:]))
    # Rows that were applied or loaded are in no log; later commits lie above them.
    top = max(
        (row.version for table in rows.values() for row in table.values()), default=0
    )
    point = LogPoint(identity=identity, epoch=role.epoch, sequence=max(upto, top))
    named = {name: store.meta(name) for name in _NAMED}
    meta = {name: value for name, value in named.items() if value is not None}
    return _CopiedRows(store.schema, rows, point, at, meta)


def _encoded(spec: CollectionSpec, row: Row) -> StoredRow:
    body = None if row.record is None else spec.codec.encode(row.record)
    return StoredRow(row.key, row.version, body)


# -- loading --------------------------------------------------------------------------


def refusal_of_role(role: str) -> ConfigError:
    """Return the error for a store that takes part in a migration."""
    return ConfigError(
        f"the store has the role {role}, so rows cannot be loaded into it. Restore into a "
        "new, empty directory or database, and promote that."
    )


def refusal_of_rows(collection: str) -> ConfigError:
    """Return the error for a store that is not empty."""
    return ConfigError(
        f"the store is not empty: it has rows of {shown(collection)}, so a snapshot cannot "
        "be loaded into it. Restore into a new, empty directory or database."
    )


def decode_stored(spec: CollectionSpec, key: str, body: bytes) -> Any:
    """Decode the body of a stored row, and require that it belongs to its key.

    Raises:
        CorruptFile: it is not a record of the collection, or one of another key.
    """
    record = spec.codec.decode(body)
    if spec.key_of(record) != key:
        raise CorruptFile(
            f"the record under the key {shown(key)} has another key",
            path=f"a stored {spec.name} row",
        )
    return record


def load_rows_by_apply(
    store: RecoverableStore,
    rows: Iterable[tuple[str, StoredRow]],
    progress: Progress | None,
) -> int:
    """Load rows into an empty store; see :meth:`RecoveryBackend.load_snapshot`."""
    _require_no_role(store)
    for spec in store.schema:
        if next(store.scan(spec.name, deleted=True), None) is not None:
            raise refusal_of_rows(spec.name)
    done = 0
    for part in _batches(_decoded(store.schema, rows)):
        store.apply(part)
        done += len(part)
        if progress is not None:
            progress(done, 0)
    return done


def load_changes_by_apply(
    store: RecoverableStore, changes: Iterable[StoredChange]
) -> int:
    """Load entries of a change log; see :meth:`RecoveryBackend.load_changes`."""
    _require_no_role(store)
    count = 0

    def rows() -> Iterator[tuple[str, StoredRow]]:
        nonlocal count
        for change in changes:
            count += 1
            for record in change.records:
                yield record.collection, StoredRow(*record[1:])

    for part in _batches(_decoded(store.schema, rows())):
        store.apply(part)
    return count


def _require_no_role(store: RecoverableStore) -> None:
    if store.meta(ROLE_META) is not None:
        raise refusal_of_role(store.role().role.value)


def _decoded(
    schema: Schema, rows: Iterable[tuple[str, StoredRow]]
) -> Iterator[ChangedRecord]:
    for collection, (key, version, body) in rows:
        spec = schema[collection]
        record = None if body is None else decode_stored(spec, key, body)
        yield ChangedRecord(spec.name, key, version, record)


def _batches(records: Iterable[ChangedRecord]) -> Iterator[list[ChangedRecord]]:
    part: list[ChangedRecord] = []
    for record in records:
        part.append(record)
        if len(part) == _BATCH:
            yield part
            part = []
    if part:
        yield part


# -- history --------------------------------------------------------------------------


def history_of(
    store: RecoverableStore, collection: str, key: str, before: int | None
) -> Iterator[KeyChange]:
    """Yield the changes of one key, the newest first, in bounded memory.

    A log is read in its own order only, so the latest changes of the key are kept on the
    way. Where a caller wants older ones than these, the log is read once more.
    """
    while True:
        found: deque[KeyChange] = deque(maxlen=_MOST_KEPT)
        found.extend(_changes_of(store, collection, key, before))
        yield from reversed(found)
        if len(found) < _MOST_KEPT:
            return
        before = found[0].sequence


def _changes_of(
    store: RecoverableStore, collection: str, key: str, before: int | None
) -> Iterator[KeyChange]:
    for change in _log_from_the_oldest(store):
        if before is not None and change.sequence >= before:
            return
        yield from key_changes(change, collection, key)


def _log_from_the_oldest(store: RecoverableStore) -> Iterator[Change]:
    try:
        yield from store.changes()
    except ChangesExpired as expired:
        yield from store.changes(expired.oldest)


def key_changes(change: Change, collection: str, key: str) -> Iterator[KeyChange]:
    """Yield what an entry of a change log says about one key."""
    for record in change.records:
        if record.key == key and record.collection == collection:
            yield KeyChange(
                sequence=change.sequence,
                epoch=change.epoch,
                at=change.at,
                by=change.by,
                reason=change.reason,
                version=record.version,
                record=record.record,
            )
