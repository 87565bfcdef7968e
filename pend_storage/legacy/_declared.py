"""Mapping of a declared file: by the fields of a user's type, its key and member names."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from typing_extensions import override

from pend_storage._shown import shown
from pend_storage.legacy import _notes as notes
from pend_storage.legacy._declared_keys import Key, KeyKind
from pend_storage.legacy._exact_json import UnreadableError
from pend_storage.legacy._mapping import Reads, RecordMapping, Source
from pend_storage.legacy._members import ObjectMapping
from pend_storage.legacy._record_ids import record_id

__all__ = ["DeclaredMapping"]


class DeclaredMapping(ObjectMapping):
    """Mapping of declared records; generated subclasses hold the declaration."""

    file: ClassVar[str]
    of: ClassVar[Key]
    inside: ClassVar[str | None]
    """Member that is the key; None where no single member is."""
    alone: ClassVar[str | None]
    """For records that are not objects: the member for the whole value."""

    # -- reading ------------------------------------------------------------------------

    @override
    def read(self, source: Source, refused: frozenset[str] = frozenset()) -> Any:
        value = source.value
        if self.alone is not None:
            value = {self.alone: value}
        if not self._is_named_outside(source, value):
            if value is not source.value:
                source = source._replace(value=value)
            return super().read(source, refused)
        value = {self.inside: source.name, **value}
        record = super().read(source._replace(value=value), refused)
        made = dict(record.extra.get(notes.RESERVED, {}))
        made["absent"] = [*made.get("absent", ()), self.inside]
        extra = {**record.extra, notes.RESERVED: made}
        return dataclasses.replace(record, extra=extra)

    def _is_named_outside(self, source: Source, value: Any) -> bool:
        """Return whether the member name is the key, and the record lacks the member."""
        if source.name is None or self.inside is None or type(value) is not dict:
            return False
        return self.inside not in value

    @override
    def complete(self, columns: dict[str, Any], source: Source) -> None:
        key = self.of
        if key.kind is KeyKind.CONTENT:
            columns[key.column] = self._key_of_content(source.digest, source.occurrence)
            columns["occurrence"] = source.occurrence
            return
        if key.kind is KeyKind.NAME:
            try:
                columns[key.fields[0]] = key.from_name(str(source.name))
            except ValueError as error:
                raise UnreadableError("bad-key", str(error)) from error
        text = key.text(columns)
        columns[key.column] = text
        if source.name is not None and text != source.name:
            reason = f"it has the key {shown(text)}, but stands under another name"
            raise UnreadableError("bad-key", reason)

    # -- rendering ----------------------------------------------------------------------

    @override
    def write(self, record: Any) -> Any:
        value = super().write(record)
        if self.alone is not None:
            return value.get(self.alone)
        if self.inside is not None and self.inside in value:
            _, own = notes.detach(record.extra)
            if self.inside in own.absent:
                del value[self.inside]
        return value

    @override
    def name(self, record: Any) -> str:
        return self.of.text(lambda name: getattr(record, name))

    @override
    def find(self, store: Reads, name: str) -> Any:
        return store.collection(self.collection).get(name)

    # -- adoption -----------------------------------------------------------------------

    @override
    def identity(self, record: Any) -> str:
        if self.of.kind is KeyKind.CONTENT:
            return RecordMapping.identity(self, record)
        return f"key {getattr(record, self.key)}"

    @override
    def by_content(self, record: Any) -> bool:
        return self.of.kind is KeyKind.CONTENT

    @override
    def again(self, record: Any, occurrence: int) -> Any:
        if self.of.kind is not KeyKind.CONTENT:
            return super().again(record, occurrence)
        key = self._key_of_content(str(record.content_hash), occurrence)
        return dataclasses.replace(record, occurrence=occurrence, **{self.key: key})

    def _key_of_content(self, digest: str, occurrence: int) -> str:
        return record_id(self.collection, self.file, digest, str(occurrence))

    @override
    def born(self, record: Any) -> Any:
        """Return None: a user's field ``created_at`` may be any time."""
        return None
