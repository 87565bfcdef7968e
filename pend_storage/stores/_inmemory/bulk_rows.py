"""Bulk rows: snapshots of a state, and rows that are loaded into one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from typing_extensions import override

from pend_storage._model.records import JSON
from pend_storage._model.snapshots import (
    LogPoint,
    SnapshotReader,
    StoredChange,
    StoredRecord,
    StoredRow,
)
from pend_storage._recovery_defaults import (
    decode_stored,
    refusal_of_role,
    refusal_of_rows,
)
from pend_storage.events import Progress
from pend_storage.phases import ROLE_META
from pend_storage.schema import CollectionSpec, Schema
from pend_storage.stores._inmemory.state import ChangedRow, State
from pend_storage.stores._inmemory.table import Contents

__all__ = [
    "ContentsReader",
    "NewestRows",
    "contents_of",
    "decoded_contents",
    "require_empty",
    "require_no_role",
    "with_rows",
]

_PACE: Final = 5_000
"""Rows after which progress is reported again."""


def contents_of(state: State) -> dict[str, Contents]:
    """Copy all rows; a flat copy, which later commits do not change."""
    return {n: (t.rows.copy(), t.tombstones.copy()) for n, t in state.tables.items()}


class ContentsReader(SnapshotReader):
    """Snapshot of a store with its rows in memory: a flat copy of its tables."""

    def __init__(
        self,
        schema: Schema,
        contents: Mapping[str, Contents],
        point: LogPoint,
        at: datetime,
        meta: Mapping[str, JSON],
        *,
        canonical: bool = True,
    ) -> None:
        """Keep a copy of the tables.

        Args:
            schema: the collections.
            contents: rows and tombstones by collection; nothing may change them.
            point: position of the copy.
            at: time of the position.
            meta: all named values.
            canonical: False where bodies may be of an earlier form of the schema: they
                are encoded again.
        """
        self._schema = schema
        self._contents = contents
        self._canonical = canonical
        self.point = point
        self.at = at
        self.meta = meta

    @override
    def rows(self, collection: str) -> Iterator[StoredRow]:
        spec = self._schema[collection]
        rows, tombstones = self._contents.get(spec.name, ({}, {}))
        codec = spec.codec
        for key, (version, body) in rows.items():
            if not self._canonical:
                body = codec.encode(codec.decode(body))  # noqa: PLW2901 - the same row
            yield StoredRow(key, version, body)
        for key, version in tombstones.items():
            yield StoredRow(key, version, None)


# -- loading --------------------------------------------------------------------------


def require_no_role(state: State) -> None:
    """Require that a store stands alone.

    Raises:
        ConfigError: it has a role.
    """
    if ROLE_META in state.meta:
        raise refusal_of_role(state.role.role.value)


def require_empty(state: State) -> None:
    """Require that a store stands alone, and has neither rows nor tombstones.

    Raises:
        ConfigError: it has a role, or rows.
    """
    require_no_role(state)
    for spec in state.schema:
        table = state.table(spec.name)
        if table.rows or table.tombstones:
            raise refusal_of_rows(spec.name)


def decoded_contents(
    schema: Schema, rows: Iterable[tuple[str, StoredRow]], progress: Progress | None
) -> dict[str, Contents]:
    """Gather rows by collection; each is decoded once, to be sure that it can be.

    Raises:
        CorruptFile: a body cannot be decoded, or is of another key.
        UnknownCollection: the schema has no such collection.
    """
    found: dict[str, Contents] = {}
    done = 0
    for collection, (key, version, body) in rows:
        spec = schema[collection]
        there, tombstones = found.setdefault(spec.name, ({}, {}))
        if body is None:
            tombstones[key] = version
        else:
            there[key] = (version, _one_line(spec, key, body))
        done += 1
        if progress is not None and done % _PACE == 0:
            progress(done, 0)
    if progress is not None and done % _PACE:
        progress(done, 0)
    return found


class NewestRows:
    """Newest row of each key among entries of a change log."""

    def __init__(self, schema: Schema, changes: Iterable[StoredChange]) -> None:
        """Read entries; only what is left of each key is decoded.

        Raises: as :func:`decoded_contents`.
        """
        self.entries = 0
        """Number of entries that were read."""
        newest: dict[tuple[str, str], StoredRecord] = {}
        for change in changes:
            self.entries += 1
            for record in change.records:
                place = record[:2]
                known = newest.get(place)
                if known is None or known.version < record.version:
                    newest[place] = record
        self.rows: list[ChangedRow] = []
        while newest:  # not both copies at once
            self.rows.append(_checked(schema, newest.popitem()[1]))

    def newer_than(self, state: State) -> Iterator[ChangedRow]:
        """Yield those that are newer than the rows of a state."""
        for row in self.rows:
            if row.version > state.table(row.collection).version(row.key):
                yield row


def _checked(schema: Schema, record: StoredRecord) -> ChangedRow:
    spec, body = schema[record.collection], record.body
    if body is not None:
        body = _one_line(spec, record.key, body)
    return ChangedRow(spec.name, record.key, record.version, body)


def with_rows(
    contents: dict[str, Contents], rows: Iterable[ChangedRow]
) -> dict[str, Contents]:
    """Set rows in a copy of all tables, and return it."""
    for row in rows:
        there, tombstones = contents.setdefault(row.collection, ({}, {}))
        if row.body is None:
            there.pop(row.key, None)
            tombstones[row.key] = row.version
        else:
            tombstones.pop(row.key, None)
            there[row.key] = (row.version, row.body)
    return contents


def _one_line(spec: CollectionSpec, key: str, body: bytes) -> bytes:
    """Return a body as it is stored: what a journal or a snapshot holds is one line."""
    record = decode_stored(spec, key, body)
    return spec.codec.encode(record) if b"\n" in body else body
