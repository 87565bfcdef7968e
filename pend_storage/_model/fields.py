"""Fields of a record type: their kinds and limits, read from annotations."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pend_storage._shown import MOST_IN_ERRORS, outline, shown
from pend_storage.errors import ConfigError

__all__ = ["SIMPLE_TYPES", "FieldSpec", "Kind", "Limit", "Personal", "fields_of"]


class Kind(StrEnum):
    """Kind of a field: the type of its values."""

    STR = "str"
    INT = "int"
    BOOL = "bool"
    FLOAT = "float"
    DECIMAL = "decimal"
    DATETIME = "datetime"
    DATE = "date"
    BYTES = "bytes"
    CHOICE = "choice"
    """An ``Enum`` or a ``Literal``."""
    JSON = "json"
    """Any JSON value; as a whole it may be null even where the field is not optional."""
    OBJECT = "object"
    """A JSON object."""
    LIST = "list"
    """A JSON list."""

    @property
    def is_json(self) -> bool:
        """True for fields with a JSON value of any shape."""
        return self in {Kind.JSON, Kind.OBJECT, Kind.LIST}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Bounds of a field, given in ``Annotated``.

    ``msgspec.Meta`` and the classes of ``annotated_types`` are understood as well,
    because only the names of the attributes count.
    """

    ge: Any = None
    gt: Any = None
    le: Any = None
    lt: Any = None
    min_length: int | None = None
    """In characters, bytes or items."""
    max_length: int | None = None
    pattern: str | None = None
    """A regular expression that must be found in the text (anchor it yourself)."""
    digits: int | None = None
    """Of a Decimal or an int: how many digits at most, before and after the point."""
    places: int | None = None
    """Of a Decimal: how many digits at most after the point; never rounded."""

    def merged(self, other: object) -> Limit:
        """Return this limit, with the attributes that another object sets."""
        found = {
            f.name: value
            for f in dataclasses.fields(self)
            if (value := getattr(other, f.name, None)) is not None
        }
        return dataclasses.replace(self, **found) if found else self


@dataclass(frozen=True, slots=True)
class Personal:
    """Mark of a field with personal or secret data, given in ``Annotated``.

    Messages, divergences and findings show type and length of its values, not the values; of
    a key with this mark, events show the beginning. What is stored does not change.
    """


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """Specification of one field of a record type."""

    name: str
    kind: Kind
    optional: bool = False
    limit: Limit = Limit()
    choices: tuple[Any, ...] = ()
    """The plain values of a CHOICE field, all text or all integers."""
    enum: type[Enum] | None = None
    """The class of a CHOICE field declared by an Enum."""
    default: Any = ...
    """Default value; ``...`` where the field is required, or where a factory makes a
    fresh one each time."""
    shape: Any = None
    """Annotation of a container with the types of its items; None: any JSON."""
    indexed: bool = False
    """True for a part of a key, a reference or an index: its size is limited."""
    # Neither compared nor printed: the fingerprint of a schema must not change by it.
    personal: bool = dataclasses.field(default=False, compare=False, repr=False)
    """True where :class:`Personal` marks it: its values are not shown."""

    def shown(self, value: Any) -> str:
        """Return a refused value for an error: cut, and hidden where it is personal."""
        return outline(value) if self.personal else shown(value, MOST_IN_ERRORS)


SIMPLE_TYPES: Mapping[Any, Kind] = {
    str: Kind.STR,
    bool: Kind.BOOL,
    int: Kind.INT,
    float: Kind.FLOAT,
    Decimal: Kind.DECIMAL,
    datetime: Kind.DATETIME,
    date: Kind.DATE,
    bytes: Kind.BYTES,
    dict: Kind.OBJECT,
    Mapping: Kind.OBJECT,
    list: Kind.LIST,
    Any: Kind.JSON,
}
"""Types that a field may have, beside enumerations and literals."""


def fields_of(record_type: type) -> tuple[FieldSpec, ...]:
    """Read the fields of a frozen dataclass, in order.

    Raises:
        ConfigError: not a frozen dataclass, or a field of a type that is not supported.
    """
    params = getattr(record_type, "__dataclass_params__", None)
    if params is None or not params.frozen:
        raise ConfigError(
            f"{record_type.__qualname__} must be a frozen dataclass: write "
            "@dataclass(frozen=True) above it."
        )
    hints = get_type_hints(record_type, include_extras=True)
    return tuple(
        _field_spec(record_type, f, hints[f.name])
        for f in dataclasses.fields(record_type)
    )


def _field_spec(
    record_type: type, declared: dataclasses.Field[Any], hint: Any
) -> FieldSpec:
    limit = Limit()
    personal = _is_personal(hint)
    hint, limit = _strip_annotated(hint, limit)
    hint, optional = _strip_optional(hint)
    hint, limit = _strip_annotated(hint, limit)
    choices: tuple[Any, ...] = ()
    enum: type[Enum] | None = None
    if get_origin(hint) is Literal:
        kind, choices = Kind.CHOICE, get_args(hint)
    elif isinstance(hint, type) and issubclass(hint, Enum):
        kind, enum = Kind.CHOICE, hint
        choices = tuple(member.value for member in hint)
    else:
        kind = _kind(record_type, declared.name, hint)
    if choices and {type(c) for c in choices} not in ({str}, {int}):
        raise ConfigError(
            f"{record_type.__qualname__}.{declared.name}: the values of an Enum or a "
            "Literal must be all str or all int."
        )
    default = ... if declared.default is dataclasses.MISSING else declared.default
    if declared.default_factory is not dataclasses.MISSING and kind.is_json:
        default = declared.default_factory()
    shape = hint if kind.is_json and get_args(hint)[-1:] not in ((), (Any,)) else None
    return FieldSpec(
        declared.name,
        kind,
        optional,
        limit,
        choices,
        enum,
        default,
        shape,
        personal=personal,
    )


def _strip_annotated(hint: Any, limit: Limit) -> tuple[Any, Limit]:
    if get_origin(hint) is Annotated:
        hint, *metadata = get_args(hint)
        for item in metadata:
            limit = limit.merged(item)
    return hint, limit


def _is_personal(hint: Any) -> bool:
    """Return whether an annotation, or the part of it beside None, has the mark."""
    if get_origin(hint) is Annotated:
        inner, *metadata = get_args(hint)
        marked = any(isinstance(m, Personal) or m is Personal for m in metadata)
        return marked or _is_personal(inner)
    is_union = get_origin(hint) in {Union, types.UnionType}
    return is_union and any(map(_is_personal, get_args(hint)))


def _strip_optional(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in {Union, types.UnionType}:
        members = [a for a in get_args(hint) if a is not type(None)]
        if len(members) == 1:
            return members[0], True
    return hint, False


def _kind(record_type: type, name: str, hint: Any) -> Kind:
    kind = SIMPLE_TYPES.get(hint) or SIMPLE_TYPES.get(get_origin(hint))
    if kind is None:
        raise ConfigError(
            f"{record_type.__qualname__}.{name}: the type {hint!r} cannot be stored. Use "
            "str, int, bool, float, Decimal, datetime, date, bytes, an Enum, a Literal, "
            "a JSON value (JSON, dict[str, JSON], list[JSON]), or one of them | None."
        )
    return kind
