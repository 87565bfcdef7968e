"""Files of one's own, declared in a line each.

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
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final

from typing_extensions import override

from pend_storage import schema
from pend_storage.errors import ConfigError
from pend_storage.layout import Layout, one_each
from pend_storage.legacy.declared import DeclaredMapping
from pend_storage.legacy.declared_adapter import Adapter
from pend_storage.legacy.declared_keys import (
    Key,
    KeyKind,
    MemberName,
    require_key_type,
)
from pend_storage.legacy.declared_members import member_of
from pend_storage.legacy.declared_types import StoredType, stored_type
from pend_storage.legacy.document_files import DOCUMENTS, DocumentMapping
from pend_storage.legacy.frame import (
    JSON_LINES,
    LIST,
    MAP,
    NAMED,
    OBJECT,
    SCALAR,
    SINGLE,
    WRAPPED,
    WRAPPED_MAP,
)
from pend_storage.legacy.layout import RecordLayout
from pend_storage.legacy.members import Member
from pend_storage.legacy.parts import PartLayout, RestLayout
from pend_storage.legacy.user_types import UserField, user_fields
from pend_storage.schema import CollectionSpec, Schema

__all__ = ["RecordFile", "documents", "records", "schema_of"]

_LINES: Final = frozenset({".jsonl", ".ndjson"})
_GIVEN: Final = (LIST, MAP, OBJECT, SCALAR, JSON_LINES)
_KEY_COLUMNS: Final = ("key", "record_key")


class RecordFile(RecordLayout):
    """The layout of a file declared by :func:`records` or :func:`documents`."""

    declares: CollectionSpec
    """The collection of its records."""

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
    """See that a schema has the collection of a file.

    Raises:
        ConfigError: it has not.
    """
    found = next((c for c in schema if c.name == wanted.name), None)
    if found is not None and found.record_type is wanted.record_type:
        return
    what = "has no collection" if found is None else "stores another type in"
    raise ConfigError(
        f"{file}: the schema {what} {wanted.name!r}. Records of a file have what only the "
        "file tells of them, and the schema must know of it: make it with SCHEMA = "
        "ps.schema_of(LAYOUTS, ...further collections)."
    )


class _RecordPart(PartLayout):
    """A part of a file that is declared by several :func:`records`."""

    def __init__(self, whole: RecordFile) -> None:
        super().__init__(whole)
        self._whole: Final = whole

    @override
    def require(self, schema: Schema) -> None:
        self._whole.require(schema)


class _RestOfParts(RestLayout):
    """What is left of such a file."""

    @override
    def require(self, schema: Schema) -> None:
        _require(schema, DOCUMENTS, self.file)


def documents(
    *files: str, newest_first: bool = False, blank_is_empty: bool = False
) -> tuple[RecordFile, ...]:
    """Files of any JSON, without a declaration of what is in them.

    Their records are of the collection ``documents``.

    Args:
        files: paths below the JSON directory, with forward slashes.
        newest_first: lists grow at the front.
        blank_is_empty: a file of 0 bytes, or of white space, has no records; else it
            waits in quarantine, because it is not JSON.
    """
    return tuple(_document_file(f, newest_first, blank_is_empty) for f in files)


def _document_file(file: str, newest_first: bool, blank: bool) -> RecordFile:  # noqa: FBT001 - of its caller
    shapes: tuple[str, ...] = (MAP, LIST, SCALAR)
    if PurePosixPath(file).suffix in _LINES:
        shapes = (JSON_LINES,)
    made = RecordFile(
        file,
        DocumentMapping(file),
        shapes=shapes,
        newest_first=newest_first,
        blank_is_empty=blank,
    )
    made.declares = DOCUMENTS
    return made


def schema_of(layouts: Iterable[Layout], *collections: CollectionSpec) -> Schema:
    """The schema of declared files, and of further collections.

    Args:
        layouts: made by :func:`records` and :func:`documents`; layouts of another kind
            need a collection of theirs among the others.
        collections: made by :func:`~pend_storage.schema.collection`.

    Raises:
        ConfigError: two files declare one collection, and so on.
    """
    layouts = tuple(layouts)
    one_each(layouts)  # or it says which of them cannot be
    declared: dict[str, CollectionSpec] = {}
    files: set[str] = set()
    for layout in layouts:
        spec = getattr(layout, "declares", None)
        if spec is None:
            continue
        if layout.file in files:  # what is left of a file of several collections
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
    """A file whose records are of one type of the caller's.

    Args:
        file: path below the JSON directory, with forward slashes.
        record_type: a dataclass, a msgspec Struct, an attrs class or a pydantic model.
            Members of the file without a field in it are kept all the same.
        key: the field that tells records apart: text, a number or a UUID. Several fields
            together; ``MEMBER_NAME`` where the file is an object and the record's name in
            it is the key, which the field ``id`` holds, or the first one; None where
            records have none, and may be equal.
        collection: name of the collection; by default that of the path or the file.
        shape: ``LIST``, ``MAP``, ``JSON_LINES``, ``OBJECT`` (the whole file is one
            record) or ``SCALAR`` (so it is, and no object). By default a list or a map,
            whichever the file is; a map for ``MEMBER_NAME``; lines for ``.jsonl`` and
            ``.ndjson``.
        path: the member of the file that holds the records, where there are others.
        members: field to the name of its member, where it is another one; or a
            :class:`~pend_storage.legacy.members.Member` that says how it is spelled.
        value: where records are no objects: the field that holds the whole value.
        newest_first: the file grows at the front.
        blank_is_empty: a file of 0 bytes, or of white space, has no records; else it
            waits in quarantine, because it is not JSON.
        unique: as for :func:`~pend_storage.schema.collection`; so are the others.
        references: see there.
        indexes: see there.
        search: see there.

    Raises:
        ConfigError: a field that cannot be stored, a key that is none, and so on.
    """
    name = collection or _collection_name(path or PurePosixPath(file).stem)
    declared = _Declaration(file, record_type, name, shape, path, value)
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
    made = RecordFile(
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


@dataclass(frozen=True, slots=True)
class _Declaration:
    """One file of the caller's, as far as :func:`records` was told."""

    file: str
    user_type: type
    collection: str
    shape: str | None
    path: str | None
    value: str | None

    def __post_init__(self) -> None:
        if self.shape not in {None, *_GIVEN}:
            known = ", ".join(_GIVEN)
            raise ConfigError(
                f"{self.file}: there is no shape {self.shape!r}; there are: {known}."
            )
        if self.path is not None and self.shape not in {None, LIST, MAP}:
            raise ConfigError(
                f"{self.file}: records of a part of a file (path) are a LIST or a MAP."
            )

    # -- shape --------------------------------------------------------------------------

    @property
    def _shape(self) -> str | None:
        if self.shape is None and PurePosixPath(self.file).suffix in _LINES:
            return JSON_LINES
        return self.shape

    def shapes(self, key: Key) -> tuple[str, ...]:
        """What the file may be."""
        given = self._shape
        if given is None and key.kind is KeyKind.FIELD:
            return (LIST, MAP) if self.path is None else (WRAPPED, WRAPPED_MAP)
        if given is None:
            given = MAP if key.kind is KeyKind.NAME else LIST
        if self.path is not None:
            given = {LIST: WRAPPED, MAP: WRAPPED_MAP}[given]
        if key.kind is KeyKind.NAME and given not in NAMED:
            raise ConfigError(
                f"{self.file}: MEMBER_NAME is the key of a MAP, and the shape is {given!r}."
            )
        if given in NAMED and key.kind not in {KeyKind.NAME, KeyKind.FIELD}:
            raise ConfigError(
                f"{self.file}: the records of a MAP have one key. Give key=MEMBER_NAME, or "
                "the field that is the member name."
            )
        return (given,)

    # -- key ----------------------------------------------------------------------------

    def key_and_type(
        self, key: str | Sequence[str] | MemberName | None
    ) -> tuple[Key, StoredType]:
        """The key of the records, and the type that is stored."""
        found = self._key(key, {f.name: f for f in user_fields(self.user_type)})
        counts = found.kind is KeyKind.CONTENT
        adds = None if found.column in found.fields else found.column
        stored = stored_type(
            self.user_type, key_column=adds, counts=counts, collection=self.collection
        )
        return found, stored

    def _key(
        self,
        key: str | Sequence[str] | MemberName | None,
        fields: Mapping[str, UserField],
    ) -> Key:
        column = next(
            n for n in _KEY_COLUMNS if n not in fields or n is _KEY_COLUMNS[-1]
        )
        if self._shape in SINGLE:
            only = PurePosixPath(self.file).stem
            kind = KeyKind.ONLY
            return Key(kind, column, only=only, collection=self.collection)
        if key is None:
            return Key(KeyKind.CONTENT, column, collection=self.collection)
        if isinstance(key, MemberName):
            names: tuple[str, ...] = ("id" if "id" in fields else next(iter(fields)),)
            kind = KeyKind.NAME
        else:
            names = (key,) if isinstance(key, str) else tuple(key)
            kind = KeyKind.FIELD if len(names) == 1 else KeyKind.FIELDS
        kinds = tuple(self._key_type(name, fields) for name in names)
        if kind is not KeyKind.FIELDS and kinds[0] is not int:
            column = names[0]
        return Key(kind, column, names, kinds, collection=self.collection)

    def _key_type(self, name: str, fields: Mapping[str, UserField]) -> type:
        if name not in fields:
            raise ConfigError(
                f"{self.file}: {self.user_type.__qualname__} has no field {name!r} for the "
                "key. Give key= the field that tells records apart, MEMBER_NAME, or None "
                "where they have none."
            )
        return require_key_type(self.user_type, name, fields[name].hint)

    # -- members ------------------------------------------------------------------------

    def mapping(
        self,
        key: Key,
        stored: StoredType,
        members: Mapping[str, str | Member],
        spec: CollectionSpec,
    ) -> DeclaredMapping:
        """What the records of the file become."""
        for name in members:
            stored.column(name)
        named = key.fields if key.kind is KeyKind.NAME else ()
        alone = self._alone(key, stored)
        table = tuple(
            self._member(stored, column.name, members, key)
            for column in stored.columns
            if column.name not in named and column.name not in _BESIDE_FIELDS
        )
        by_column = {member.column: member.name for member in table}
        is_inside = key.kind is KeyKind.FIELD
        what = {
            "file": self.file,
            "collection": self.collection,
            "record_type": stored.record_type,
            "key": key.column,
            "of": key,
            "inside": by_column[key.fields[0]] if is_inside else None,
            "alone": None if alone is None else by_column[alone],
            "members": table,
            "computed": (*dict.fromkeys((*named, key.column)),),
            "guarded": spec.unique,
        }
        made = type(f"{self.user_type.__name__}Mapping", (DeclaredMapping,), what)
        mapping: DeclaredMapping = made()
        return mapping

    def _member(
        self,
        stored: StoredType,
        name: str,
        members: Mapping[str, str | Member],
        key: Key,
    ) -> Member:
        given, column = members.get(name), stored.column(name)
        if isinstance(given, Member):
            return given
        spec = stored.fields[name]
        needed = name in key.fields or (spec.default is ... and not spec.optional)
        called = given or column.field.member or name
        return member_of(column, spec, called, required=needed)

    def _alone(self, key: Key, stored: StoredType) -> str | None:
        """The field that holds the whole value of a record that is no object."""
        value = self.value
        if value is None and self._shape == SCALAR:
            names = [c.name for c in stored.columns if c.name not in _BESIDE_FIELDS]
            if len(names) != 1:
                raise ConfigError(
                    f"{self.file}: a SCALAR has one value. Give value= the field of "
                    f"{self.user_type.__qualname__} that holds it."
                )
            value = names[0]
        if value is not None and (stored.column(value) and value in key.fields):
            raise ConfigError(f"{self.file}: the field {value!r} is the key.")
        return value


_BESIDE_FIELDS: Final = frozenset(
    {"extra", "legacy_position", "content_hash", "occurrence"}
)
