"""Wire format: parameters as text, arrays in PostgreSQL's binary protocol.

Arrays are encoded here, because for text the driver's own encoder takes five times as
long. Format: ``array_recv`` in
https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/arrayfuncs.c
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

__all__ = [
    "Value",
    "bigint_array",
    "flag",
    "is_token",
    "json_array",
    "jsonb_array",
    "number",
    "optional",
    "optional_array",
    "text_array",
    "token_value",
    "uuid_array",
]

Value: TypeAlias = bytes | None
"""One parameter, or one field of a result; None is null."""

_BIGINT: Final = 20  # object identifiers of types, fixed in pg_type.dat
_TEXT: Final = 25
_JSON: Final = 114
_UUID: Final = 2950
_JSONB: Final = 3802
_HEAD: Final = struct.Struct("!iiiii")  # dimensions, nulls, type, length, first index
_EMPTY: Final = struct.Struct("!iii")
_LENGTH: Final = struct.Struct("!i").pack
_TOKEN: Final = re.compile("[0-9a-f]{32}")
_NULL: Final = _LENGTH(-1)
_INTEGER: Final = struct.Struct("!q").pack
_BIGINT_ITEM: Final = struct.Struct("!iq").pack


def _array(kind: int, items: Sequence[Value]) -> bytes:
    if not items:
        return _EMPTY.pack(0, 0, kind)
    parts = [_HEAD.pack(1, 1 if None in items else 0, kind, len(items), 1)]
    for item in items:
        if item is None:
            parts.append(_NULL)
        else:
            parts.append(_LENGTH(len(item)))
            parts.append(item)
    return b"".join(parts)


def optional_array(items: Iterable[str | None]) -> bytes:
    """Encode a ``text[]`` that may contain nulls."""
    return _array(_TEXT, [None if i is None else i.encode() for i in items])


def text_array(items: Iterable[str]) -> bytes:
    """Encode a ``text[]``."""
    return _array(_TEXT, [item.encode() for item in items])


def uuid_array(items: Iterable[str]) -> bytes:
    """Encode a ``uuid[]`` of tokens; an empty token becomes null."""
    return _array(_UUID, [bytes.fromhex(item) or None for item in items])


def json_array(items: Sequence[Value]) -> bytes:
    """Encode a ``json[]`` of serialised documents."""
    return _array(_JSON, items)


def jsonb_array(items: Iterable[bytes]) -> bytes:
    """Encode a ``jsonb[]`` of serialised documents."""
    return _array(_JSONB, [b"\x01" + item for item in items])


def bigint_array(items: Sequence[int | None]) -> bytes:
    """Encode a ``bigint[]``."""
    if not items or None in items:
        return _array(_BIGINT, [None if i is None else _INTEGER(i) for i in items])
    head = _HEAD.pack(1, 0, _BIGINT, len(items), 1)
    return head + b"".join([_BIGINT_ITEM(8, item) for item in items])


def number(value: int | None) -> Value:
    """Encode an integer as text."""
    return None if value is None else b"%d" % value


def flag(value: bool) -> Value:  # noqa: FBT001 - that is all it is about
    """Encode a boolean as text."""
    return b"t" if value else b"f"


def optional(text: str | None) -> Value:
    """Encode a text; None becomes null."""
    return None if text is None else text.encode()


def is_token(text: str) -> bool:
    """Return whether a text is a token: 32 lower-case hex digits, stored as 16 bytes."""
    return _TOKEN.fullmatch(text) is not None


def token_value(token: str) -> Value:
    """Encode a token; an empty one becomes null."""
    return token.encode() or None
