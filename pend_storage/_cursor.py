"""Opaque cursors: the end of a page, bound to the order that it was sorted by."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from pend_storage._model.fields import FieldSpec, Kind
from pend_storage._shown import shown
from pend_storage.codec import check_json, value_checker
from pend_storage.errors import InvalidQuery
from pend_storage.query import SortKey
from pend_storage.schema import CollectionSpec

__all__ = ["decode_cursor", "encode_cursor"]

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


def _signature(spec: CollectionSpec, order_by: Sequence[SortKey]) -> str:
    terms = [("-" if order.descending else "") + order.field for order in order_by]
    return ",".join((spec.name, *terms))


def encode_cursor(
    spec: CollectionSpec, order_by: Sequence[SortKey], values: Sequence[Any], key: str
) -> str:
    """Return the cursor after the record with these sort values and this key."""
    text = msgspec.json.encode([_signature(spec, order_by), list(values), key])
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def decode_cursor(
    spec: CollectionSpec, order_by: Sequence[SortKey], cursor: str
) -> tuple[tuple[Any, ...], str]:
    """Return sort values and key of the record that a cursor stands after.

    Raises:
        InvalidQuery: not a cursor, or one of another collection or order.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        signature, values, key = msgspec.json.decode(
            base64.urlsafe_b64decode(padded), type=tuple[str, list[Any], str]
        )
        typed = tuple(
            _typed(spec.fields[order.field], value)
            for order, value in zip(order_by, values, strict=True)
        )
        check_json(key)
    except (
        msgspec.MsgspecError,
        binascii.Error,
        UnicodeEncodeError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise InvalidQuery(
            f"{shown(cursor)} is not a cursor of this query: pass Page.next unchanged, with "
            "the same order_by"
        ) from error
    if signature != _signature(spec, order_by):
        raise InvalidQuery(
            f"the cursor belongs to a query of {shown(signature)}: start again without it"
        )
    return typed, key


def _typed(target: FieldSpec, value: Any) -> Any:
    if value is None:
        return None
    kind = target.kind
    if kind is Kind.CHOICE:
        kind = Kind.STR if isinstance(target.choices[0], str) else Kind.INT
    check = value_checker(FieldSpec(target.name, kind))
    return check(msgspec.convert(value, _TYPES[kind]))
