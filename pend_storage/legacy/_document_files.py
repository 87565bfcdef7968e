"""Document files: schemaless JSON files, stored as one document per member or item.

:func:`documents` needs no declaration of a file's content. An object becomes a document
for each member, a list or JSON lines one for each item, and a bare text, number, ``true``,
``false`` or ``null`` a single one.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeAlias

from typing_extensions import override

from pend_storage import query
from pend_storage._layouts.unread_files import resting_on
from pend_storage._model.conditions import Condition
from pend_storage._model.fields import Limit
from pend_storage._model.records import JSON
from pend_storage.legacy import _notes as notes
from pend_storage.legacy._exact_json import with_numbers
from pend_storage.legacy._mapping import Reads, RecordMapping, Source
from pend_storage.legacy._record_ids import record_id
from pend_storage.schema import collection

__all__ = ["DOCUMENTS", "Document", "DocumentMapping"]

_Uuid: TypeAlias = Annotated[
    str, Limit(pattern=r"\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
]
_Count: TypeAlias = Annotated[int, Limit(ge=0, le=2**31 - 1)]
_BigInteger: TypeAlias = Annotated[int, Limit(ge=-(2**63), le=2**63 - 1)]
_ContentHash: TypeAlias = Annotated[str, Limit(pattern=r"\A[0-9a-f]{64}\Z")]


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Record of a legacy file that has no collection of its own."""

    id: _Uuid = ""
    """Empty: derived from file and key; random without a key."""
    file: Annotated[str, Limit(max_length=255)]
    key: str | None = None
    """The member name in the file; None in a list."""
    body: JSON
    occurrence: _Count = 0
    """Number of older records of the same file and content, in a list."""
    created_at: datetime | None = field(default_factory=_now)
    extra: dict[str, JSON] = field(default_factory=dict)
    legacy_position: _BigInteger | None = None
    content_hash: _ContentHash | None = None

    def __post_init__(self) -> None:
        if not self.id:
            made = (
                str(uuid.uuid4())
                if self.key is None
                else record_id("documents", self.file, "key", self.key)
            )
            object.__setattr__(self, "id", made)


DOCUMENTS: Final = collection(
    "documents",
    Document,
    indexes=[["file", "key"], ["file", "legacy_position"]],
)
"""Collection of all documents, for a schema of your own."""


class DocumentMapping(RecordMapping):
    """Mapping of each member or item of a file to a document."""

    collection = "documents"
    where_tells = True

    def __init__(self, file: str) -> None:
        self.file: Final = file
        self.told: frozenset[str] = frozenset({"key", "body", "extra", "content_hash"})
        self.where: tuple[Condition, ...] = (query.field("file") == file,)

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
        others = verbs.find(*self.where, query.field("key") == name, limit=1).items
        return others[0] if others else None

    @override
    def named(self, name: str) -> Condition:
        mine = query.field("file") == self.file
        key = query.field("id") == self._key_of_name(name)
        return mine & (query.field("key") == name) | mine & key

    @override
    def merge(self, present: Document, read: Document) -> Document:
        extra = notes.renewed(present.extra, read.extra)
        merged: Document = replace(super().merge(present, read), extra=extra)
        return merged

    def _key_of_name(self, name: str) -> str:
        return record_id("documents", self.file, "key", name)

    def _key_of_item(self, content_hash: str, occurrence: int) -> str:
        return record_id("documents", self.file, content_hash, str(occurrence))
