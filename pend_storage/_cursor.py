"""Opaque cursors: the end of a page, bound to the order that it was sorted by.

A cursor has the sort values and the key of a record, in base64: who gets it can read them.
With a key it is signed, so that only cursors of the store are taken, and may expire.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from pend_storage._model.fields import FieldSpec, Kind
from pend_storage._shown import shown
from pend_storage._signing import SigningKeys
from pend_storage.codec import check_json, value_checker
from pend_storage.errors import ConfigError, InvalidQuery
from pend_storage.query import SortKey
from pend_storage.schema import CollectionSpec

__all__ = ["MAX_CURSOR", "CursorKey", "decode_cursor", "encode_cursor"]

MAX_CURSOR: Final = 1 << 20
"""Characters of a cursor at most."""
_PURPOSE: Final = b"pend_storage cursor 1"

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


class CursorKey:
    """Key that signs the cursors of a store, with the time for which they count."""

    def __init__(self, key: str, *, lifetime: float | None = None) -> None:
        """Make a key.

        Args:
            key: 32 bytes at least; or several, separated by commas, of which the first one
                signs and all verify.
            lifetime: seconds after which a cursor is refused; None: it does not expire.

        Raises:
            ConfigError: the key is too short, or the lifetime is not more than 0.
        """
        if lifetime is not None and not lifetime > 0:
            raise ConfigError(
                f"lifetime of cursors must be more than 0 seconds, not {lifetime}."
            )
        self._keys = SigningKeys.parse(key, purpose=_PURPOSE, place="the cursor key")
        self._lifetime = lifetime

    def sign(self, body: bytes) -> str:
        """Return the text of a cursor with its time and its signature."""
        dated = f"{int(time.time()):x}.".encode() + _text(body)
        return f"{dated.decode()}.{_text(self._keys.sign(dated)).decode()}"

    def verified(self, cursor: str) -> bytes:
        """Return the content of a signed cursor.

        Raises:
            InvalidQuery: it is not signed by this key, or has expired.
        """
        dated, _, signature = cursor.rpartition(".")
        begun, _, body = dated.partition(".")
        try:
            is_signed = self._keys.is_signature(_bytes(signature), dated.encode())
        except ValueError:
            is_signed = False
        if not is_signed:
            raise InvalidQuery(
                f"{shown(cursor)} is not a cursor of this store: it was made up or changed, "
                "or signed by another key. Start again without it"
            )
        if self._lifetime is not None and time.time() - int(begun, 16) > self._lifetime:
            raise InvalidQuery("the cursor has expired: start again without it")
        return _bytes(body)


def _text(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _signature(spec: CollectionSpec, order_by: Sequence[SortKey]) -> str:
    terms = [("-" if order.descending else "") + order.field for order in order_by]
    return ",".join((spec.name, *terms))


def encode_cursor(
    spec: CollectionSpec,
    order_by: Sequence[SortKey],
    values: Sequence[Any],
    key: str,
    *,
    signed_by: CursorKey | None = None,
) -> str:
    """Return the cursor after the record with these sort values and this key.

    Args:
        spec: of the collection.
        order_by: of the page.
        values: of the record, in this order.
        key: of the record.
        signed_by: the key of the store; None: the cursor is not signed.

    Raises:
        InvalidQuery: the values are too long for a cursor.
    """
    content = msgspec.json.encode([_signature(spec, order_by), list(values), key])
    cursor = _text(content).decode() if signed_by is None else signed_by.sign(content)
    if len(cursor) > MAX_CURSOR:
        raise InvalidQuery(
            f"the cursor of this page would have {len(cursor):,} characters, and at most "
            f"{MAX_CURSOR:,} are possible: sort by fields with shorter values"
        )
    return cursor


def decode_cursor(
    spec: CollectionSpec,
    order_by: Sequence[SortKey],
    cursor: str,
    *,
    signed_by: CursorKey | None = None,
) -> tuple[tuple[Any, ...], str]:
    """Return sort values and key of the record that a cursor stands after.

    Args:
        spec: of the collection.
        order_by: of the page.
        cursor: of the page before.
        signed_by: the key of the store; None: cursors are not signed.

    Raises:
        InvalidQuery: not a cursor, or one of another collection or order; not signed by
            the key; too long; expired.
    """
    try:
        _require_short(cursor)
        content = _bytes(cursor) if signed_by is None else signed_by.verified(cursor)
        signature, values, key = msgspec.json.decode(
            content, type=tuple[str, list[Any], str]
        )
        typed = tuple(
            _typed(spec.fields[order.field], value)
            for order, value in zip(order_by, values, strict=True)
        )
        check_json(key)
    except InvalidQuery:
        raise
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


def _require_short(cursor: str) -> None:
    if len(cursor) > MAX_CURSOR:
        raise InvalidQuery(
            f"a cursor has at most {MAX_CURSOR:,} characters, and this one has "
            f"{len(cursor):,}: pass Page.next unchanged"
        )


def _typed(target: FieldSpec, value: Any) -> Any:
    if value is None:
        return None
    kind = target.kind
    if kind is Kind.CHOICE:
        kind = Kind.STR if isinstance(target.choices[0], str) else Kind.INT
    check = value_checker(FieldSpec(target.name, kind))
    return check(msgspec.convert(value, _TYPES[kind]))
