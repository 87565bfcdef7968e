"""Declaration of a user's file: derives its shapes, its key and its mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from pend_storage._layouts.folders import is_pattern
from pend_storage.errors import ConfigError
from pend_storage.legacy._declared import DeclaredMapping
from pend_storage.legacy._declared_keys import (
    Key,
    KeyKind,
    MemberName,
    require_key_type,
)
from pend_storage.legacy._declared_members import member_of
from pend_storage.legacy._declared_types import StoredType, stored_type
from pend_storage.legacy._file_envelope import (
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
from pend_storage.legacy._members import Member
from pend_storage.legacy._user_types import UserField, user_fields
from pend_storage.schema import CollectionSpec

__all__ = ["LINE_ENDINGS", "Declaration"]

LINE_ENDINGS: Final = frozenset({".jsonl", ".ndjson"})
"""File name suffixes of JSON lines."""
_GIVEN: Final = (LIST, MAP, OBJECT, SCALAR, JSON_LINES)
_KEY_COLUMNS: Final = ("key", "record_key")


@dataclass(frozen=True, slots=True)
class Declaration:
    """Declaration of one file: the arguments of :func:`records`."""

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
        if self.shape is None and PurePosixPath(self.file).suffix in LINE_ENDINGS:
            return JSON_LINES
        return self.shape

    def shapes(self, key: Key) -> tuple[str, ...]:
        """Return the allowed shapes of the file, the usual one first.

        Raises:
            ConfigError: the shape does not fit the key, or the path.
        """
        given = self._shape
        if is_pattern(self.file):
            if given not in {None, MAP} or self.path is not None:
                raise ConfigError(
                    f"{self.file}: a folder of one file for each record is a MAP, and has "
                    "no path."
                )
            given = MAP
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
        """Derive the key of the records, and the stored type."""
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
        """Make the mapping between the file's records and the stored type."""
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
        """Return the field that holds the whole value of records that are not objects."""
        value = self.value
        if value is None and self._shape == SCALAR:
            names = [c.name for c in stored.columns if c.name not in _BESIDE_FIELDS]
            if len(names) != 1:
                raise ConfigError(
                    f"{self.file}: a SCALAR has one value. Give value= the field of "
                    f"{self.user_type.__qualname__} that holds it."
                )
            value = names[0]
        if value is None:
            return None
        if stored.column(value).name in key.fields:
            raise ConfigError(f"{self.file}: the field {value!r} is the key.")
        return value


_BESIDE_FIELDS: Final = frozenset(
    {"extra", "legacy_position", "content_hash", "occurrence"}
)
