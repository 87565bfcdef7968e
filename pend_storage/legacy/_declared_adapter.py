"""Adapter between a user's records and the stored ones.

A write through the user's type keeps what only the file expresses of an existing record:
unknown members, also in nested objects, spellings, and its position.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any, Final

from pend_storage._model.diff import equal
from pend_storage.legacy._declared_keys import Key, KeyKind
from pend_storage.legacy._declared_types import Column, StoredType
from pend_storage.legacy._user_types import to_plain

__all__ = ["Adapter"]


class Adapter:
    """Converts between a user's type and its stored type.

    Implements :class:`~pend_storage._model.record_types.RecordAdapter`.
    """

    def __init__(self, stored: StoredType, key: Key) -> None:
        self.user_type: Final = stored.user_type
        self._stored: Final = stored
        self._key: Final = key
        self._columns: Final = tuple((c.name, c) for c in stored.columns)
        self._same: Final = not any(
            column.is_plain or column.is_uuid for column in stored.columns
        )
        self._adds_key: Final = key.column in stored.added

    def key(self, given: Any) -> str:
        """Convert a user's key to the stored text."""
        return self._key.text_of(given)

    def key_of(self, record: Any) -> str | None:
        """Return the key of a user's record; None where the content is the key."""
        if self._key.kind is KeyKind.CONTENT:
            return None
        columns = dict(self._columns)
        return self._key.text(lambda name: columns[name].store(getattr(record, name)))

    def give(self, record: Any) -> Any:
        """Convert a stored record to the user's type."""
        if self._same:
            values = {name: getattr(record, name) for name, _ in self._columns}
        else:
            values = {n: c.load(getattr(record, n)) for n, c in self._columns}
        return self.user_type(**values)

    def take(self, given: Any, present: Any) -> Any:
        """Convert a user's record to the stored type.

        Args:
            given: the user's record.
            present: the stored record that it replaces, or None.
        """
        values = {n: c.store(getattr(given, n)) for n, c in self._columns}
        if self._adds_key:
            key = self.key_of(given)
            values[self._key.column] = str(uuid.uuid4()) if key is None else key
        if present is None:
            return self._stored.record_type(**values)
        for name, column in self._columns:
            if column.is_plain:
                values[name] = _with_unknown(
                    column, getattr(present, name), values[name]
                )
        return dataclasses.replace(present, **values)


def _with_unknown(column: Column, present: Any, new: Any) -> Any:
    """Merge a user's JSON value into the stored one, keeping members unknown to its type."""
    if present is None or new is None:
        return new
    known = to_plain(column.load(present))
    return _merged(present, known, new)


def _merged(present: Any, known: Any, new: Any) -> Any:
    """Apply the difference from ``known`` to ``new`` to the stored value.

    Args:
        present: the stored value.
        known: the same after a round trip through the user's type.
        new: the value of the user's record.
    """
    if equal(known, new):
        return present
    if all(isinstance(value, Mapping) for value in (present, known, new)):
        kept = {name: item for name, item in present.items() if name not in known}
        changed = {
            name: _merged(present[name], known[name], item)
            if name in present and name in known
            else item
            for name, item in new.items()
            # A member that was absent, and still has its default, stays absent.
            if name in present or not (name in known and equal(known[name], item))
        }
        order = [name for name in present if name in changed or name in kept]
        return {
            name: {**kept, **changed}[name]
            for name in dict.fromkeys([*order, *changed])
        }
    if all(isinstance(v, list) for v in (present, known, new)) and (
        len(present) == len(known) == len(new)
    ):
        return [_merged(*items) for items in zip(present, known, new, strict=True)]
    return new
