"""A complete backend of a stranger's own: a store in one SQLite file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from typing_extensions import override

from pend_storage._model.diff import equal
from pend_storage.codec import dump_json, load_json
from pend_storage.errors import (
    AppendOnly,
    Conflict,
    ReferenceViolation,
    StaleEpoch,
    StalePosition,
    StoreUnavailable,
    UniqueViolation,
)
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.query import Condition, Query, select
from pend_storage.records import (
    JSON,
    Advance,
    Batch,
    Change,
    ChangedRecord,
    Put,
    Row,
)
from pend_storage.schema import AUDIT, Schema
from pend_storage.store import Store

TABLES = """
create table if not exists rows (
    collection text, key text, version integer, body blob,
    primary key (collection, key)
) without rowid;
create table if not exists log (
    sequence integer primary key, epoch integer, at text,
    token text unique, by text, reason text
);
create table if not exists log_rows (
    sequence integer, collection text, key text, version integer, body blob
);
create index if not exists log_rows_of on log_rows (sequence);
create table if not exists meta (name text primary key, value blob);
"""


class SqliteStore(Store):
    """Every verb is one SQLite transaction; queries are evaluated in Python."""

    def __init__(self, schema: Schema, path: Path) -> None:
        self.schema = schema
        self._path = path
        self._lock = threading.Lock()
        self._open: sqlite3.Connection | None = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=30
        )
        self._open.executescript(TABLES)

    @contextmanager
    def _transaction(self, mode: str = "deferred") -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._open is None:
                raise StoreUnavailable("the store is closed", store=str(self._path))
            self._open.execute(f"begin {mode}")
            try:
                yield self._open
            except BaseException:
                self._open.execute("rollback")
                raise
            self._open.execute("commit")

    # -- roles ------------------------------------------------------------------

    def _require(self, db: sqlite3.Connection, role: Role, epoch: int | None) -> int:
        """Demand a role, at this epoch if one is given; gives the epoch it has."""
        value = self._meta(db, ROLE_META)
        mine = RoleState.from_meta(value)
        alone = value is None and epoch is None
        if not alone and (mine.role is not role or epoch not in {None, mine.epoch}):
            raise StaleEpoch(
                store=str(self._path), role=mine.role.value, epoch=mine.epoch
            )
        return mine.epoch

    # -- reading ----------------------------------------------------------------

    def _rows(
        self, db: sqlite3.Connection, name: str, *, deleted: bool = False
    ) -> list[Row]:
        codec = self.schema[name].codec
        found = db.execute(
            "select key, version, body from rows where collection = ? order by key",
            (name,),
        )
        return [
            Row(key, version, None if body is None else codec.decode(body))
            for key, version, body in found
            if deleted or body is not None
        ]

    @override
    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        spec, wanted = self.schema[collection], set(keys)
        with self._transaction() as db:
            if epoch is not None:
                self._require(db, Role.PRIMARY, epoch)
            rows = {}
            for key in wanted:
                version, record = self._look(db, spec.name, key)
                if record is not None or (deleted and version):
                    rows[key] = Row(key, version, record)
            return rows

    @override
    def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        name = self.schema[collection].name
        with self._transaction() as db:
            if epoch is not None:
                self._require(db, Role.PRIMARY, epoch)
            return select(query, self._rows(db, name))

    @override
    def count(
        self, collection: str, where: Condition, *, epoch: int | None = None
    ) -> int:
        return len(self.query(collection, Query(where), epoch=epoch))

    @override
    def scan(
        self,
        collection: str,
        *,
        after: str | None = None,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Row]:
        name = self.schema[collection].name
        with self._transaction() as db:
            if epoch is not None:
                self._require(db, Role.PRIMARY, epoch)
            rows = self._rows(db, name, deleted=deleted)
        yield from (row for row in rows if after is None or row.key > after)

    # -- writing ----------------------------------------------------------------

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        self.schema.require_appending(batch)
        with self._transaction("immediate") as db:
            done = self._commit_of(db, batch.token)
            if done is not None:  # the same commit once more: its answer was lost
                return done.versions_of(batch)
            epoch = self._require(db, Role.PRIMARY, epoch)
            for (collection, key), expected in batch.checks.items():
                version, record = self._look(db, self.schema[collection].name, key)
                actual = 0 if record is None else version
                if actual != expected:
                    raise Conflict(
                        collection=collection, key=key, expected=expected, actual=actual
                    )
            versions = self._write(db, batch, epoch)
            self._check_unique(db, batch)
            self._check_references(db, batch, versions)
            return versions

    def _write(
        self, db: sqlite3.Connection, batch: Batch, epoch: int
    ) -> tuple[int, ...]:
        sequence = self._head(db) + 1
        versions, changed = [], []
        for operation in batch.operations:
            place = (operation.collection, operation.key)
            before, record = self._look(db, *place)
            if record is None and not isinstance(operation, Put):
                versions.append(0)
                continue
            if record is not None and operation.collection == AUDIT:
                raise AppendOnly(collection=AUDIT, key=operation.key)
            version = max(before + 1, sequence)
            body = operation.body if isinstance(operation, Put) else None
            self._set(db, *place, version, body)
            versions.append(version)
            changed.append((sequence, *place, version, body))
        if changed:
            now = datetime.now(UTC).isoformat()
            token = batch.token or None  # which is not unique
            entry = (sequence, epoch, now, token, batch.by, batch.reason)
            db.execute("insert into log values (?, ?, ?, ?, ?, ?)", entry)
            db.executemany("insert into log_rows values (?, ?, ?, ?, ?)", changed)
        return tuple(versions)

    def _look(self, db: sqlite3.Connection, name: str, key: str) -> tuple[int, Any]:
        """Version and record under a key; 0 for a key that never was."""
        if not _storable(key):
            return 0, None
        found = db.execute(
            "select version, body from rows where collection = ? and key = ?",
            (name, key),
        ).fetchone()
        if found is None:
            return 0, None
        version, body = found
        return version, None if body is None else self.schema[name].codec.decode(body)

    def _set(
        self,
        db: sqlite3.Connection,
        name: str,
        key: str,
        version: int,
        body: bytes | None,
    ) -> None:
        db.execute(
            "insert or replace into rows values (?, ?, ?, ?)",
            (name, key, version, body),
        )

    def _check_unique(self, db: sqlite3.Connection, batch: Batch) -> None:
        puts = [o for o in batch.operations if isinstance(o, Put)]
        written = {(put.collection, put.key) for put in puts}
        owners: dict[tuple[str, tuple[str, ...]], set[Any]] = {}
        for put in puts:
            for fields in self.schema[put.collection].unique:
                taken = owners.get((put.collection, fields))
                if taken is None:
                    taken = owners[put.collection, fields] = {
                        _values(row.record, fields)
                        for row in self._rows(db, put.collection)
                        if (put.collection, row.key) not in written
                    }
                value = _values(put.record, fields)
                if value in taken and None not in value:
                    raise UniqueViolation(
                        collection=put.collection, fields=fields, key=put.key
                    )
                taken.add(value)

    def _check_references(
        self, db: sqlite3.Connection, batch: Batch, versions: Sequence[int]
    ) -> None:
        for operation, version in zip(batch.operations, versions, strict=True):
            name, key = operation.collection, operation.key
            if isinstance(operation, Put):
                for field, target in self.schema[name].references.items():
                    value = getattr(operation.record, field)
                    if value is not None and self._look(db, target, value)[1] is None:
                        raise ReferenceViolation(
                            collection=name, field=field, target=target, value=value
                        )
            elif version:
                for spec, field in self.schema.referrers(name):
                    for row in self._rows(db, spec.name):
                        if getattr(row.record, field) == key:
                            raise ReferenceViolation(
                                collection=spec.name,
                                field=field,
                                target=name,
                                value=key,
                            )

    # -- following another store --------------------------------------------------

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        with self._transaction("immediate") as db:
            self._require(db, Role.SECONDARY, epoch)
            if mark and not equal(self._meta(db, mark.name), mark.expected):
                raise StalePosition(store=str(self._path), name=mark.name)
            written = set()
            for item in records:
                spec = self.schema[item.collection]
                if item.version > self._look(db, spec.name, item.key)[0]:
                    body = (
                        None if item.record is None else spec.codec.encode(item.record)
                    )
                    self._set(db, spec.name, item.key, item.version, body)
                    written.add((spec.name, item.key))
            if mark is not None:
                self._set_meta(db, mark.name, mark.value)
            return len(written)

    @override
    def changes(self, after: int = 0) -> Iterator[Change]:
        with self._transaction() as db:
            entries = db.execute(
                "select * from log where sequence > ? order by sequence", (after,)
            ).fetchall()
            changes = [self._change(db, entry) for entry in entries]
        yield from changes

    @override
    def find_commit(self, token: str) -> Change | None:
        with self._transaction() as db:
            return self._commit_of(db, token)

    def _commit_of(self, db: sqlite3.Connection, token: str) -> Change | None:
        entry = db.execute("select * from log where token = ?", (token,)).fetchone()
        return None if entry is None else self._change(db, entry)

    def _change(self, db: sqlite3.Connection, entry: tuple[Any, ...]) -> Change:
        sequence, epoch, at, *attribution = entry
        records = self._changed(db, sequence)
        return Change(
            sequence, epoch, datetime.fromisoformat(at), records, *attribution
        )

    def _changed(
        self, db: sqlite3.Connection, sequence: int
    ) -> tuple[ChangedRecord, ...]:
        rows = db.execute(
            "select collection, key, version, body from log_rows where sequence = ?",
            (sequence,),
        )
        return tuple(
            ChangedRecord(
                name,
                key,
                version,
                None if body is None else self.schema[name].codec.decode(body),
            )
            for name, key, version, body in rows
        )

    def _head(self, db: sqlite3.Connection) -> int:
        (highest,) = db.execute(
            "select max(coalesce((select max(version) from rows), 0),"
            " coalesce((select max(sequence) from log), 0))"
        ).fetchone()
        return int(highest)

    # -- meta ---------------------------------------------------------------------

    def _meta(self, db: sqlite3.Connection, name: str) -> JSON:
        found = db.execute("select value from meta where name = ?", (name,)).fetchone()
        return None if found is None else load_json(found[0])

    def _set_meta(self, db: sqlite3.Connection, name: str, value: JSON) -> None:
        db.execute("delete from meta where name = ?", (name,))
        if value is not None:
            db.execute("insert into meta values (?, ?)", (name, dump_json(value)))

    @override
    def meta(self, name: str) -> JSON:
        with self._transaction() as db:
            return self._meta(db, name)

    @override
    def compare_and_set_meta(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        *,
        given: Mapping[str, JSON] | None = None,
    ) -> bool:
        with self._transaction("immediate") as db:
            wanted = {**(given or {}), name: expected}
            if not all(equal(self._meta(db, n), v) for n, v in wanted.items()):
                return False
            self._set_meta(db, name, value)
            return True

    @override
    def close(self) -> None:
        with self._lock:
            if self._open is not None:
                with closing(self._open):
                    self._open = None


def _values(record: Any, fields: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(getattr(record, field) for field in fields)


def _storable(key: object) -> bool:
    """Return True if this text can be a key at all; one that cannot is not there."""
    return isinstance(key, str) and not any(
        "\ud800" <= character <= "\udfff" for character in key
    )
