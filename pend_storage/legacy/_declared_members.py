"""Members of declared fields: the parse and render of each kind of field."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from pend_storage._model.fields import FieldSpec, Kind
from pend_storage.legacy._convert import (
    Parse,
    Render,
    amount,
    as_is,
    integer,
    json_object,
    number_of,
    text_of,
    time,
    time_text,
    usual_time,
)
from pend_storage.legacy._declared_types import Column
from pend_storage.legacy._exact_json import ExactFloat
from pend_storage.legacy._members import Member

__all__ = ["NEVER", "member_of"]


class _Never:
    """Sentinel type that equals no column value: each is rendered, null too."""


NEVER: Final = _Never()


def member_of(column: Column, spec: FieldSpec, name: str, *, required: bool) -> Member:
    """Make the member of a declared field.

    Args:
        column: of the user's field.
        spec: of the stored field.
        name: of the member.
        required: a record without it is quarantined.
    """
    parse, render = _converters(column, spec)
    return Member(
        name,
        column.name,
        parse,
        render,
        required=required,
        blank=NEVER,
        usual=usual_time if spec.kind is Kind.DATETIME else None,
        nullable=spec.optional or spec.kind is Kind.JSON,
    )


def _converters(column: Column, spec: FieldSpec) -> tuple[Parse, Render]:
    if column.is_plain:
        return _fitting(column), as_is
    if column.is_uuid:
        return _uuid(column), as_is
    if spec.kind is Kind.CHOICE:
        return _choice(spec), as_is if spec.enum is None else lambda found: found.value
    return _CONVERTERS[spec.kind]


def _fitting(column: Column) -> Parse:
    def parse(value: Any) -> Any:
        column.load(value)  # raises where the user's type cannot hold it
        return value

    return parse


def _uuid(column: Column) -> Parse:
    def parse(value: Any) -> str:
        text = text_of(value)
        return str(column.load(text))

    return parse


def _choice(spec: FieldSpec) -> Parse:
    known: Mapping[Any, Any] = {
        (type(choice), choice): choice if spec.enum is None else spec.enum(choice)
        for choice in spec.choices
    }

    def parse(value: Any) -> Any:
        found = known.get((type(value), value), None) if _is_word(value) else None
        if found is None:
            raise ValueError("none of the words of the field")
        return found

    return parse


def _is_word(value: Any) -> bool:
    return type(value) in {str, int}


def _true_or_false(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("true or false expected")
    return value


def _number(value: Any) -> float:
    if type(value) not in {int, float, ExactFloat}:
        raise ValueError("a number expected")
    found = float(value)
    if type(value) is int and int(found) != value:
        raise ValueError("no float is exactly this number")
    return found


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise ValueError("a list expected")
    return value


def _date(value: Any) -> date:
    return date.fromisoformat(text_of(value))


def _bytes(value: Any) -> bytes:
    return base64.b64decode(text_of(value), validate=True)


def _bytes_text(value: bytes) -> str:
    return base64.b64encode(value).decode()


_CONVERTERS: Final[Mapping[Kind, tuple[Parse, Render]]] = {
    Kind.STR: (text_of, as_is),
    Kind.INT: (integer, as_is),
    Kind.BOOL: (_true_or_false, as_is),
    Kind.FLOAT: (_number, as_is),
    Kind.DECIMAL: (amount, number_of),
    Kind.DATETIME: (time, time_text),
    Kind.DATE: (_date, date.isoformat),
    Kind.BYTES: (_bytes, _bytes_text),
    Kind.JSON: (as_is, as_is),
    Kind.OBJECT: (json_object, as_is),
    Kind.LIST: (_list, as_is),
}
