"""Legacy files that have no table of their own: each record is kept as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from typing_extensions import override

from pend_storage.legacy import notes
from pend_storage.legacy.exact import with_numbers
from pend_storage.legacy.mapping import Reads, RecordMapping, Source
from pend_storage.pend.identity import record_id
from pend_storage.pend.records import Document
from pend_storage.query import Condition, field
from pend_storage.unread import resting_on

__all__ = ["DocumentMapping"]


class DocumentMapping(RecordMapping):
    """A document from each member or item, whatever it is."""

    collection = "documents"
    where_tells = True

    def __init__(self, file: str) -> None:
        self.file: Final = file
        self.told = frozenset({"key", "body", "extra", "content_hash"})
        self.where = (field("file") == file,)

    @override
    def read(self, source: Source, refused: frozenset[str] = frozenset()) -> Document:
        extra: dict[str, Any] = {}
        if source.exact:
            extra[notes.RESERVED] = {"numbers": notes.numbers_of(source.value)}
        return Document(
            id=(
                self._key_of_item(source.digest, source.occurrence)
                if source.name is None
                else self._key_of_name(source.name)
            ),
            file=self.file,
            key=source.name,
            body=source.value,
            occurrence=source.occurrence,
            created_at=None,
            extra=extra,
            legacy_position=source.position,
            content_hash=source.digest,
        )

    @override
    def write(self, record: Document) -> Any:
        return with_numbers(record.body, notes.numbers_in(record.extra))

    @override
    def name(self, record: Document) -> str:
        return record.id if record.key is None else record.key

    @override
    def identity(self, record: Document) -> str:
        if record.key is not None:
            return f"key {record.key}"
        return super().identity(record)

    @override
    def by_content(self, record: Document) -> bool:
        return record.key is None

    @override
    def again(self, record: Document, occurrence: int) -> Document:
        if record.key is not None:
            return super().again(record, occurrence)  # type: ignore[no-any-return]
        key = self._key_of_item(str(record.content_hash), occurrence)
        return replace(record, id=key, occurrence=occurrence)

    @override
    def owns(self, record: Document) -> bool:
        return record.file == self.file

    @override
    def find(self, reads: Reads, name: str) -> Document | None:
        verbs = reads.collection(self.collection)
        with resting_on(self.file):  # other files share the collection
            found: Document | None = verbs.get(self._key_of_name(name))
        if found is not None and found.key == name:
            return found
        others = verbs.find(*self.where, field("key") == name, limit=1).items
        return others[0] if others else None

    @override
    def named(self, name: str) -> Condition:
        mine = field("file") == self.file
        key = field("id") == self._key_of_name(name)
        return mine & (field("key") == name) | mine & key

    @override
    def merge(self, present: Document, read: Document) -> Document:
        extra = notes.renewed(present.extra, read.extra)
        merged: Document = replace(super().merge(present, read), extra=extra)
        return merged

    def _key_of_name(self, name: str) -> str:
        return record_id("documents", self.file, "key", name)

    def _key_of_item(self, content_hash: str, occurrence: int) -> str:
        return record_id("documents", self.file, content_hash, str(occurrence))
