"""Stored types of user types: the declared fields, and those for what only the file has.

A legacy file holds more than a type declares: members that the type does not know, the
position of a record, the spelling of a value. So the stored type has, beside the fields of
the user's,

``extra``
    members without a field, and spellings that rendering a field would not restore;
``legacy_position``
    the position in the file;
``content_hash``
    SHA-256 of the legacy record when it was read;
and a key of its own where no field of the user's type is a text that can be one.

A frozen dataclass that declares all of them is stored as it is.
"""

from __future__ import annotations

import dataclasses
import types
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pend_storage._model.fields import SIMPLE_TYPES, FieldSpec, Limit, fields_of
from pend_storage._model.records import JSON
from pend_storage.errors import ConfigError
from pend_storage.legacy._user_types import (
    ABSENT,
    UserField,
    from_plain,
    is_class_of_fields,
    to_plain,
    user_fields,
)

__all__ = ["Column", "StoredType", "stored_type"]

_BESIDE: Final[Mapping[str, tuple[Any, Any]]] = {
    "extra": (dict[str, JSON], dict),
    "legacy_position": (
        Annotated[int, Limit(ge=-(2**63), le=2**63 - 1)] | None,
        None,
    ),
    "content_hash": (
        Annotated[str, Limit(pattern=r"\A[0-9a-f]{64}\Z")] | None,
        None,
    ),
}
_OCCURRENCE: Final = (Annotated[int, Limit(ge=0, le=2**31 - 1)], 0)
_LISTS: Final = (list, tuple, set, frozenset)
_PLAIN_CONTAINERS: Final = (Any, dict, list, Mapping, dict[str, JSON], list[JSON])


@dataclass(frozen=True, slots=True)
class Column:
    """Stored form of one field of a user's type."""

    field: UserField
    stored: Any
    """Annotation of the stored field."""
    is_uuid: bool = False
    is_plain: bool = False
    """Stored as JSON, converted from the user's value."""

    @property
    def name(self) -> str:
        """Name of both fields."""
        return self.field.name

    def store(self, value: Any) -> Any:
        """Convert a user's value to the stored one."""
        if value is None:
            return None
        if self.is_uuid:
            return str(value)
        return to_plain(value) if self.is_plain else value

    def load(self, value: Any) -> Any:
        """Convert a stored value to the user's."""
        if value is None:
            return None
        if self.is_uuid:
            return uuid.UUID(value)
        return from_plain(value, self.field.hint) if self.is_plain else value

    def default(self) -> Any:
        """Return the default, or the dataclass field, of the stored field."""
        given, factory = self.field.default, self.field.factory
        if factory is not None:
            return field(default_factory=lambda: self.store(factory()))
        if given is ABSENT:
            return None if _stripped(self.stored)[1] else ABSENT
        made = self.store(given)
        if isinstance(made, dict | list):
            return field(default_factory=made.copy)
        return made


@dataclass(frozen=True, slots=True)
class StoredType:
    """Stored type of a user's type."""

    user_type: type
    record_type: type
    columns: tuple[Column, ...]
    fields: Mapping[str, FieldSpec]
    added: frozenset[str]
    """Fields of the stored type that the user's lacks."""

    def column(self, name: str) -> Column:
        """Return the column of a field.

        Raises:
            ConfigError: the type has no such field.
        """
        for column in self.columns:
            if column.name == name:
                return column
        known = ", ".join(column.name for column in self.columns)
        raise ConfigError(
            f"{self.user_type.__qualname__} has no field {name!r}; it has: {known}."
        )


def stored_type(
    user_type: type, *, key_column: str | None, counts: bool, collection: str
) -> StoredType:
    """Derive the stored type of a user's type.

    Args:
        user_type: the declared type.
        key_column: name of a text field to add for the key; None: a field is the key.
        counts: records have no key, so that equal ones must be counted.
        collection: for messages.

    Raises:
        ConfigError: a field that cannot be stored, or a reserved field name.
    """
    columns = tuple(_column(f) for f in user_fields(user_type))
    names = {column.name for column in columns}
    beside = dict(_BESIDE)
    if counts:
        beside["occurrence"] = _OCCURRENCE
    _require_fitting(user_type, columns, beside)
    added = {name: how for name, how in beside.items() if name not in names}
    as_it_is = not added and key_column is None and _is_frozen(user_type)
    if as_it_is and not any(c.is_uuid or c.is_plain for c in columns):
        specs = {spec.name: spec for spec in fields_of(user_type)}
        return StoredType(user_type, user_type, columns, specs, frozenset())
    declared: list[Any] = [] if key_column is None else [(key_column, str)]
    for column in columns:
        default = column.default()
        declared.append(
            (column.name, column.stored)
            if default is ABSENT
            else (column.name, column.stored, default)
        )
    for name, (hint, default) in added.items():
        made = (
            field(default_factory=dict) if default is dict else field(default=default)
        )
        declared.append((name, hint, made))
    made_type = dataclasses.make_dataclass(
        f"{user_type.__name__}Row", declared, frozen=True, kw_only=True, slots=True
    )
    made_type.__module__ = user_type.__module__
    made_type.__doc__ = f"What is stored of a {user_type.__name__} of {collection!r}."
    specs = {spec.name: spec for spec in fields_of(made_type)}
    hidden = frozenset(added) | ({key_column} if key_column else set())
    return StoredType(user_type, made_type, columns, specs, hidden)


def _is_frozen(user_type: type) -> bool:
    params = getattr(user_type, "__dataclass_params__", None)
    return params is not None and params.frozen


def _require_fitting(
    user_type: type, columns: tuple[Column, ...], beside: Mapping[str, tuple[Any, Any]]
) -> None:
    """Check that fields with the names of added ones have their types.

    Raises:
        ConfigError: a field has another type.
    """
    for column in columns:
        wanted = beside.get(column.name)
        if wanted is None:
            continue
        if _origin(_stripped(column.stored)[0]) is not _origin(_stripped(wanted[0])[0]):
            raise ConfigError(
                f"{user_type.__qualname__}.{column.name}: the name is taken by what the "
                f"library keeps of the file. Name the field otherwise, and say "
                f"members={{'other_name': {column.name!r}}}."
            )


def _column(declared: UserField) -> Column:
    base, optional = _stripped(declared.hint)
    if base is uuid.UUID:
        return Column(declared, str | None if optional else str, is_uuid=True)
    if base in _PLAIN_CONTAINERS or base in SIMPLE_TYPES or _is_choice(base):
        return Column(declared, declared.hint)
    origin = _origin(base)
    stored: Any = JSON
    if origin in _LISTS:
        stored = list[JSON]
    elif origin is dict or origin is Mapping or is_class_of_fields(base):
        stored = dict[str, JSON]
    return Column(declared, stored | None if optional else stored, is_plain=True)


def _is_choice(hint: Any) -> bool:
    is_enum = isinstance(hint, type) and issubclass(hint, Enum)
    return is_enum or get_origin(hint) is Literal


def _origin(hint: Any) -> Any:
    return get_origin(hint) or hint


def _stripped(hint: Any) -> tuple[Any, bool]:
    """Strip limits and ``| None`` from an annotation; returns it, and if it had None."""
    optional = False
    while True:
        if get_origin(hint) is Annotated:
            hint = get_args(hint)[0]
        elif get_origin(hint) in {Union, types.UnionType}:
            members = [a for a in get_args(hint) if a is not type(None)]
            if len(members) != 1:
                return hint, optional
            hint, optional = members[0], True
        else:
            return hint, optional
