"""Rewriting of stored records when their schema changes. Pure; the same on every store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec

from pend_storage._model.fields import FieldSpec, Kind
from pend_storage._schema_changes import former_names
from pend_storage._schema_note import CollectionShape, FieldShape
from pend_storage._shown import cut, shown
from pend_storage.codec import dump_json, value_checker
from pend_storage.errors import CorruptFile, InvalidRecord, SchemaOutOfDate
from pend_storage.schema import CollectionSpec

__all__ = ["Misfits", "Rewriting", "check_unique", "is_of", "value_in"]

_MOST_SHOWN: Final = 10
_MOST_REASON: Final = 200
_TYPES: Final[Mapping[Kind, Any]] = {
    Kind.STR: str,
    Kind.INT: int,
    Kind.BOOL: bool,
    Kind.FLOAT: float,
    Kind.DECIMAL: Decimal,
    Kind.DATETIME: datetime,
    Kind.DATE: date,
    Kind.BYTES: bytes,
}
_NULL: Final = msgspec.Raw(b"null")
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


class Misfits:
    """Misfits: stored values that do not fit a schema, for one report."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, place: str, reason: str) -> None:
        """Record a misfit."""
        self._count += 1
        if len(self._shown) < _MOST_SHOWN:
            self._shown.append(f"{place}: {cut(reason, _MOST_REASON)}")

    def refusal(self, store: str) -> SchemaOutOfDate:
        """Return the error that refuses the schema."""
        more = self._count - len(self._shown)
        tail = f"; and {more:,} more" if more else ""
        return SchemaOutOfDate(
            f"{store}: {self._count:,} stored values do not fit the schema of this "
            f"program: {'; '.join(self._shown)}{tail}. Correct them with the program of "
            "before, declare what they become (evolve=ps.Evolve(convert=...)), or change "
            "the schema; nothing was changed."
        )


class Rewritten(NamedTuple):
    """Rewritten record of the present schema, with its encoded body."""

    record: Any
    body: bytes


class Rewriting:
    """Rewriting of the records of one collection."""

    def __init__(
        self, spec: CollectionSpec, former: CollectionShape, present: CollectionShape
    ) -> None:
        """Prepare the rewriting.

        Args:
            spec: the declared collection.
            former: its description that is stored with the records.
            present: its description from now on.
        """
        self._spec = spec
        self._former = former
        self._present = present
        self._names = former_names(former, present, spec.evolve)
        # A function counts only for a field that has changed: declared conversions stay in
        # the schema after the migration, and must not convert a second time.
        self._functions = {
            field: function
            for field, function in spec.evolve.convert.items()
            if self._differs(field)
        }

    def _differs(self, field: str) -> bool:
        was = self._names.get(field)
        return was is None or self._former.fields[was] != self._present.fields[field]

    def rewritten(self, body: bytes) -> Rewritten:
        """Rewrite a stored record.

        Raises:
            ValueError: it does not fit; with the reason.
        """
        old = _members(body)
        new = {}
        for field, shape in self._present.fields.items():
            value = self._value(field, shape, old)
            if value is not None:
                new[field] = value
        codec = self._spec.codec
        try:
            record = codec.check(codec.decode(_encode(new)))
        except CorruptFile as error:
            raise ValueError(error.reason) from error
        except InvalidRecord as error:
            raise ValueError(f"{error.field or 'record'}: {error.reason}") from error
        return Rewritten(record, codec.encode(record))

    def _value(
        self, field: str, shape: FieldShape, old: Mapping[str, msgspec.Raw]
    ) -> Any:
        """Return the member of the new record; None for its default."""
        was, function = self._names.get(field), self._functions.get(field)
        declared = self._spec.fields[field]
        if was is None:
            if function is not None:
                return value_in(declared, function, self._as_dict(old))
            return None if shape.has_default or not shape.optional else _NULL
        former = self._former.fields[was]
        raw = old.get(was)
        if raw is None:
            if not former.has_default:
                return None
            raw = msgspec.Raw(dump_json(former.default))
        if function is None:
            return raw
        return value_in(declared, function, _python(former, raw))

    def _as_dict(self, old: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
        """Return the whole former record, as a dict."""
        return {
            name: _python(shape, old[name]) if name in old else shape.default
            for name, shape in self._former.fields.items()
        }


def _python(shape: FieldShape, raw: msgspec.Raw) -> Any:
    """Decode a stored value by the former field."""
    kind = _TYPES.get(Kind(shape.kind), Any)
    return msgspec.json.decode(raw, type=kind if kind is Any else kind | None)


def is_of(shape: FieldShape, raw: msgspec.Raw) -> bool:
    """Return whether a stored value is of the kind of a field."""
    try:
        value = _python(shape, raw)
    except msgspec.DecodeError:
        return False
    return not shape.choices or value is None or value in shape.choices


def value_in(
    field: FieldSpec, function: Callable[[Any], Any], former: Any
) -> msgspec.Raw:
    """Convert a former value by a function, and encode it as JSON.

    Raises:
        ValueError: the function fails, or returns a value that the field refuses.
    """
    if former is None and field.optional:
        return _NULL
    try:
        value = function(former)
    except Exception as error:
        raise ValueError(
            f"{field.name}: the function of convert failed on {field.shown(former)} "
            f"({type(error).__name__}: {error})"
        ) from error
    if value is None and field.optional:
        return _NULL
    try:
        checked = value_checker(field)(value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{field.name}: {error}") from error
    return msgspec.Raw(dump_json(checked) if field.kind.is_json else _encode(checked))


def _values(
    spec: CollectionSpec, group: tuple[str, ...], values: tuple[Any, ...]
) -> str:
    each = [spec.fields[n].shown(v) for n, v in zip(group, values, strict=True)]
    return each[0] if len(each) == 1 else f"({', '.join(each)})"


def check_unique(
    spec: CollectionSpec, records: Iterable[tuple[str, Any]], misfits: Misfits
) -> None:
    """Record as misfits the records that have a unique value of another one."""
    owners: dict[tuple[Any, ...], str] = {}
    for key, record in records:
        for group in spec.unique:
            value = tuple(getattr(record, name) for name in group)
            if None in value:
                continue
            owner = owners.setdefault((group, value), key)
            if owner != key:
                misfits.add(
                    f"{spec.name}[{shown(key)}]",
                    f"{', '.join(group)} must be unique, and {spec.name}[{shown(owner)}] "
                    f"has {_values(spec, group, value)} too",
                )
