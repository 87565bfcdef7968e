"""Declared files: :func:`records` and :func:`documents` declare a file in a line each.

.. code-block:: python

    LAYOUTS = (
        ps.records("products.json", Product, key="id"),
        ps.records("users.json", User, key=ps.MEMBER_NAME),
        *ps.documents("economy.json", "motd.json"),
    )
    SCHEMA = ps.schema_of(LAYOUTS)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final

from typing_extensions import override

from pend_storage import schema
from pend_storage._layouts.folders import is_pattern
from pend_storage._layouts.layout import Layout, one_each
from pend_storage.errors import ConfigError
from pend_storage.legacy._declarations import LINE_ENDINGS, Declaration
from pend_storage.legacy._declared_adapter import Adapter
from pend_storage.legacy._declared_keys import (
    MemberName,
)
from pend_storage.legacy._document_files import DOCUMENTS, DocumentMapping
from pend_storage.legacy._file_envelope import (
    JSON_LINES,
    LIST,
    MAP,
    SCALAR,
)
from pend_storage.legacy._folder_files import FolderLayout
from pend_storage.legacy._layout import RecordLayout
from pend_storage.legacy._members import Member
from pend_storage.legacy._parts import PartLayout, RestLayout
from pend_storage.schema import CollectionSpec, Schema

__all__ = ["RecordFile", "documents", "records", "schema_of"]


class RecordFile(RecordLayout):
    """Layout of a file declared by :func:`records` or :func:`documents`."""

    declares: CollectionSpec
    """Declaration of its records' collection."""

    @override
    def joined(self, layouts: Sequence[Layout]) -> Sequence[Layout]:
        same = [layout for layout in layouts if isinstance(layout, RecordFile)]
        members = {layout.wrapper for layout in same}
        if len(members) < len(layouts) or None in members:
            return super().joined(layouts)
        parts = [_RecordPart(layout) for layout in same]
        return (_RestOfParts(self.file, parts), *parts)

    @override
    def require(self, schema: Schema) -> None:
        _require(schema, self.declares, self.file)


def _require(schema: Schema, wanted: CollectionSpec, file: str) -> None:
    """Check that a schema has the collection of a file.

    Raises:
        ConfigError: the collection is missing, or stores another type.
    """
    found = next((c for c in schema if c.name == wanted.name), None)
    if found is not None and found.record_type is wanted.record_type:
        return
    what = "has no collection" if found is None else "stores another type in"
    raise ConfigError(
        f"{file}: the schema {what} {wanted.name!r}. Records of a file have further fields "
        "for what only the file holds, and the schema must declare them: make it with "
        "SCHEMA = ps.schema_of(LAYOUTS, ...further collections)."
    )


class _RecordFolder(FolderLayout, RecordFile):
    """Layout of a declared folder of one file for each record."""


class _RecordPart(PartLayout):
    """Layout of a part of a file that several :func:`records` declare."""

    def __init__(self, whole: RecordFile) -> None:
        super().__init__(whole)
        self._whole: Final = whole

    @override
    def require(self, schema: Schema) -> None:
        self._whole.require(schema)


class _RestOfParts(RestLayout):
    """Layout of the other members of such a file."""

    @override
    def require(self, schema: Schema) -> None:
        _require(schema, DOCUMENTS, self.file)


def documents(
    *files: str, newest_first: bool = False, blank_is_empty: bool = False
) -> tuple[RecordFile, ...]:
    """Declare files of any JSON, without a declaration of their content.

    Their records are of the collection ``documents``.

    Args:
        files: paths below the JSON directory, with forward slashes. With a star in its
            last part, each such file is a document: ``guilds/*.json``.
        newest_first: lists grow at the front.
        blank_is_empty: a file of 0 bytes, or of white space, has no records; otherwise it
            is quarantined, because it is not JSON.

    Returns:
        One layout for each path.
    """
    return tuple(_document_file(f, newest_first, blank_is_empty) for f in files)


def _document_file(file: str, newest_first: bool, blank: bool) -> RecordFile:  # noqa: FBT001 - of its caller
    shapes: tuple[str, ...] = (MAP, LIST, SCALAR)
    kind = RecordFile
    if PurePosixPath(file).suffix in LINE_ENDINGS:
        shapes = (JSON_LINES,)
    if is_pattern(file):
        shapes, kind = (MAP,), _RecordFolder
    made = kind(
        file,
        DocumentMapping(file),
        shapes=shapes,
        newest_first=newest_first,
        blank_is_empty=blank,
    )
    made.declares = DOCUMENTS
    return made


def schema_of(layouts: Iterable[Layout], *collections: CollectionSpec) -> Schema:
    """Make the schema of declared files, and of further collections.

    Args:
        layouts: made by :func:`records` and :func:`documents`; the collections of other
            layouts have to be among the further ones.
        collections: made by :func:`~pend_storage.schema.collection`.

    Raises:
        ConfigError: two files declare one collection, and so on.
    """
    layouts = tuple(layouts)
    one_each(layouts)  # raises for layouts that cannot share a file
    declared: dict[str, CollectionSpec] = {}
    files: set[str] = set()
    for layout in layouts:
        spec = getattr(layout, "declares", None)
        if spec is None:
            continue
        # A file of several parts has other members, too: they become documents.
        if layout.file in files:
            declared.setdefault(DOCUMENTS.name, DOCUMENTS)
        files.add(layout.file)
        known = declared.setdefault(spec.name, spec)
        if known is not spec:
            raise ConfigError(
                f"{layout.file}: the collection {spec.name!r} is declared by another "
                'file already. Give one of them collection="another_name".'
            )
    return Schema((*declared.values(), *collections))


def records(
    file: str,
    record_type: type,
    *,
    key: str | Sequence[str] | MemberName | None = "id",
    collection: str | None = None,
    shape: str | None = None,
    path: str | None = None,
    members: Mapping[str, str | Member] | None = None,
    value: str | None = None,
    newest_first: bool = False,
    blank_is_empty: bool = False,
    unique: Iterable[str | Sequence[str]] = (),
    references: Mapping[str, str] | None = None,
    indexes: Iterable[Sequence[str]] = (),
    search: Iterable[str] = (),
) -> RecordFile:
    """Declare a file whose records are of a type of your own.

    Args:
        file: path below the JSON directory, with forward slashes. With a star in its last
            part, each such file is a record: ``users/*.json``.
        record_type: a dataclass, a msgspec Struct, an attrs class or a pydantic model.
            Members of the file without a field in it are kept all the same.
        key: the identifying field: text, a number or a UUID; or several fields together;
            ``MEMBER_NAME`` where the file is an object and the record's name in it is the
            key, which the field ``id`` holds, or the first one; None where records have
            no key, and may be equal.
        collection: name of the collection; by default that of the path or the file.
        shape: ``LIST``, ``MAP``, ``JSON_LINES``, ``OBJECT`` (the whole file is one
            record) or ``SCALAR`` (the same, but not an object). By default a list or a
            map, whichever the file is; a map for ``MEMBER_NAME``; lines for ``.jsonl`` and
            ``.ndjson``.
        path: the member of the file that holds the records, where there are others.
        members: field to the name of its member, where they differ; or a
            :class:`~pend_storage.legacy._members.Member` with its spelling.
        value: where records are not objects: the field that holds the whole value.
        newest_first: the file grows at the front.
        blank_is_empty: a file of 0 bytes, or of white space, has no records; otherwise it
            is quarantined, because it is not JSON.
        unique: as for :func:`~pend_storage.schema.collection`.
        references: as for :func:`~pend_storage.schema.collection`.
        indexes: as for :func:`~pend_storage.schema.collection`.
        search: as for :func:`~pend_storage.schema.collection`.

    Returns:
        The layout; it declares the collection for :func:`schema_of`.

    Raises:
        ConfigError: a field that cannot be stored, a field that cannot be a key, and so on.
    """
    own = PurePosixPath(file).parent.name if is_pattern(file) else ""
    name = collection or _collection_name(path or own or PurePosixPath(file).stem)
    declared = Declaration(file, record_type, name, shape, path, value)
    found, stored = declared.key_and_type(key)
    spec = schema.collection(
        name,
        stored.record_type,
        key=found.column,
        unique=unique,
        references=references,
        indexes=indexes,
        search=search,
    )
    if stored.record_type is not record_type:
        spec = replace(spec, adapter=Adapter(stored, found))
    kind = _RecordFolder if is_pattern(file) else RecordFile
    made = kind(
        file,
        declared.mapping(found, stored, members or {}, spec),
        shapes=declared.shapes(found),
        wrapper=path,
        newest_first=newest_first,
        blank_is_empty=blank_is_empty,
    )
    made.declares = spec
    return made


def _collection_name(text: str) -> str:
    found = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_") or "records"
    return f"_{found}" if found[0].isdigit() else found
