"""Codec: records to canonical JSON and back, and the check of what may be stored.

The same rules hold for every store, because every record passes through here first.
A value that one store could not give back equal is refused (`InvalidRecord`), never
bent: NaN and infinities, NUL and lone surrogates, naive times, digits beyond a limit.
Equal by value is good enough, so ``-0.0`` becomes ``0.0`` and times become UTC.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final, cast

import msgspec

from pend_storage._model import sizes
from pend_storage._model.constraints import bound_checks
from pend_storage._model.fast_path import PlainRecords, plain_json
from pend_storage._model.fields import FieldSpec, Kind
from pend_storage._model.limits import (
    MAX_BITS,
    MAX_DECIMAL_DIGITS_AFTER_POINT,
    MAX_DECIMAL_DIGITS_BEFORE_POINT,
    MAX_DEPTH,
    MAX_DIGITS,
)
from pend_storage._model.records import JSON
from pend_storage._model.storable_text import UNSTORABLE, UnstorableTextError
from pend_storage._shown import MOST_IN_ERRORS, shown
from pend_storage.errors import CorruptFile, InvalidRecord

__all__ = ["RecordCodec", "check_json", "dump_json", "load_json", "value_checker"]

_ENCODER: Final = msgspec.json.Encoder()
_DECODE_ANY: Final = msgspec.json.Decoder().decode
# The end of a number with an exponent. Hashes are full of "1e5", but not before a comma.
_EXPONENT: Final = re.compile(rb"e\d\d+(?:[,\]}]|$)")


class _Refused(ValueError):
    """Reason why a value cannot be stored; turned into InvalidRecord with its place."""


class _Unstorable(_Refused, UnstorableTextError):
    """Refusal of a text with a character that some store cannot hold."""


Checker = Callable[[Any], Any]
"""Returns the value as it will be stored, or raises ``ValueError`` with the reason."""


def dump_json(value: JSON) -> bytes:
    """Encode compact JSON in which every float stays a float for every reader.

    PostgreSQL's jsonb reads ``1e23`` as an integer of another value; written out as
    ``99999999999999991611392.0``, which it is exactly, it survives, and compares with
    large integers as it does here.
    """
    text = _ENCODER.encode(value)
    if _EXPONENT.search(text) is None:
        return text
    return _ENCODER.encode(_with_plain_floats(value))


def _with_plain_floats(value: JSON) -> Any:
    if isinstance(value, float) and abs(value) >= 1e16:  # noqa: PLR2004 - where repr turns to exponents
        return msgspec.Raw(f"{Decimal(value):f}.0".encode())
    if isinstance(value, Mapping):
        return {k: _with_plain_floats(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_with_plain_floats(v) for v in value]
    return value


def load_json(text: bytes | str) -> JSON:
    """Parse JSON exactly: integers of any size stay integers."""
    return cast("JSON", _DECODE_ANY(text))


def check_json(value: Any, depth: int = 0) -> JSON:
    """Return a JSON value as it will be stored (the same object where nothing changes).

    Raises:
        ValueError: it holds something that is not JSON, or that some store cannot hold.
    """
    if plain_json(value, depth):
        return cast("JSON", value)
    if depth >= MAX_DEPTH:
        raise _Refused(f"it is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, list | tuple):
        return [check_json(item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        return {
            _check_name(name): check_json(item, depth + 1)
            for name, item in value.items()
        }
    for kind, check in _JSON_SCALARS:
        if isinstance(value, kind):
            return cast("JSON", check(value))
    raise _Refused(f"{type(value).__name__} is not a JSON value")


def _check_name(name: Any) -> str:
    if not isinstance(name, str):
        raise _Refused(f"the member name {shown(name, MOST_IN_ERRORS)} is not text")
    return _check_text(name)


def _check_text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Refused(f"{type(value).__name__} given, text expected")
    if not value.isascii() or "\x00" in value:
        found = UNSTORABLE.search(value)
        if found is not None:
            raise _Unstorable(
                f"the character U+{ord(found[0]):04X} at {found.start()} cannot be "
                "stored by every store"
            )
    return str.__str__(value)  # plain text, even of a text Enum


def _check_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise _Refused(f"{type(value).__name__} given, a number expected")
    given = value
    try:
        value = float(value)
    except OverflowError:
        raise _Refused("the number is too large for a float") from None
    if not math.isfinite(value):
        raise _Refused(f"{value} is not a finite number")
    if value != given:
        raise _Refused(f"no float is exactly {shown(given, MOST_IN_ERRORS)}")
    return 0.0 if value == 0.0 and math.copysign(1.0, value) < 0 else value


def _check_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Refused(f"{type(value).__name__} given, an integer expected")
    if value.bit_length() > MAX_BITS:
        raise _Refused(f"the integer has more than {MAX_DIGITS:,} digits")
    return int(value)


_JSON_SCALARS: Final[tuple[tuple[type, Checker], ...]] = (
    (str, _check_text),
    (int, _check_int),
    (float, _check_float),
)


def _check_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Refused(f"{type(value).__name__} given, true or false expected")
    return value


def _check_decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, Decimal | int):
        raise _Refused(f"{type(value).__name__} given, a Decimal expected")
    number = Decimal(value)
    if not number.is_finite():
        raise _Refused(f"{number} is not a finite number")
    exponent = cast("int", number.as_tuple().exponent)
    if (
        -exponent > MAX_DECIMAL_DIGITS_AFTER_POINT
        or number.adjusted() >= MAX_DECIMAL_DIGITS_BEFORE_POINT
    ):
        raise _Refused("the Decimal has more digits than PostgreSQL's numeric can hold")
    return number if number or not number.is_signed() else Decimal(0)  # -0 is 0


def _check_datetime(value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise _Refused(f"{type(value).__name__} given, a datetime expected")
    if value.tzinfo is UTC and type(value) is datetime:
        return value
    if value.utcoffset() is None:
        raise _Refused("the time has no time zone: give an aware datetime")
    try:
        utc = value.astimezone(UTC)
    except OverflowError:
        raise _Refused("the time is outside of the years 1 to 9999 in UTC") from None
    return datetime.combine(utc.date(), utc.time(), UTC)  # plain, of a subclass too


def _check_date(value: Any) -> date:
    if isinstance(value, datetime) or not isinstance(value, date):
        raise _Refused(f"{type(value).__name__} given, a date expected")
    return value if type(value) is date else date(value.year, value.month, value.day)


def _check_bytes(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise _Refused(f"{type(value).__name__} given, bytes expected")
    return bytes(value)


def _check_object(value: Any) -> JSON:
    if not isinstance(value, Mapping):
        raise _Refused(f"{type(value).__name__} given, a JSON object expected")
    return check_json(value)


def _check_list(value: Any) -> JSON:
    if not isinstance(value, list | tuple):
        raise _Refused(f"{type(value).__name__} given, a JSON list expected")
    return check_json(value)


_KIND_CHECKERS: Final[Mapping[Kind, Checker]] = {
    Kind.STR: _check_text,
    Kind.INT: _check_int,
    Kind.BOOL: _check_bool,
    Kind.FLOAT: _check_float,
    Kind.DECIMAL: _check_decimal,
    Kind.DATETIME: _check_datetime,
    Kind.DATE: _check_date,
    Kind.BYTES: _check_bytes,
    Kind.JSON: check_json,
    Kind.OBJECT: _check_object,
    Kind.LIST: _check_list,
}


def _choice_checker(spec: FieldSpec) -> Checker:
    if spec.enum is not None:
        enum = spec.enum

        def check_member(value: Any) -> Any:
            if not isinstance(value, enum):
                raise _Refused(
                    f"{spec.shown(value)} is not a member of {enum.__name__}"
                )
            return value

        return check_member
    allowed = {(type(choice), choice) for choice in spec.choices}

    def check_choice(value: Any) -> Any:
        if (type(value), value) not in allowed:
            raise _Refused(
                f"{spec.shown(value)} is not one of {', '.join(map(repr, spec.choices))}"
            )
        return value

    return check_choice


def value_checker(spec: FieldSpec) -> Checker:
    """Make the checker of one field: it returns the stored value, or raises the reason."""
    base = (
        _choice_checker(spec) if spec.kind is Kind.CHOICE else _KIND_CHECKERS[spec.kind]
    )
    bounds = bound_checks(spec)
    if not bounds:
        return base

    def check(value: Any) -> Any:
        value = base(value)
        for bound in bounds:
            if (excess := bound(value)) is not None:
                raise _Refused(excess)
        return value

    return check


class RecordCodec:
    """Codec of one collection: checks, encodes and decodes its records."""

    def __init__(
        self, collection: str, record_type: type[Any], fields: tuple[FieldSpec, ...]
    ) -> None:
        self.collection = collection
        self._type = record_type
        self._is_plain = PlainRecords(fields)
        self._checks = tuple((f.name, f.optional, value_checker(f)) for f in fields)
        self._count = len(fields)
        self._json_fields = tuple(f.name for f in fields if f.kind.is_json)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(record_type)

    def check(self, record: Any) -> Any:
        """Return a record as it will be stored (the same object where nothing changes).

        Raises:
            InvalidRecord: a value that the schema or some store refuses.
        """
        kind: type = type(record)  # exactly: a subclass may hold more than is stored
        if kind is not self._type:
            raise InvalidRecord(
                f"{kind.__name__} given, {self._type.__name__} expected",
                collection=self.collection,
            )
        if self._is_plain(record):
            return record
        changed: dict[str, Any] = {}
        for name, optional, checker in self._checks:
            value = getattr(record, name)
            if value is None and optional:
                continue
            try:
                stored = checker(value)
            except (ValueError, TypeError) as error:
                raise InvalidRecord(
                    str(error), collection=self.collection, field=name
                ) from None
            if stored is not value:
                changed[name] = stored
        return dataclasses.replace(record, **changed) if changed else record

    def encode(self, record: Any) -> bytes:
        """Encode a checked record as canonical JSON."""
        own = getattr(record, "__dict__", None)
        is_whole = own is None or len(own) == self._count
        text = _ENCODER.encode(record)
        if is_whole and (_EXPONENT.search(text) is None or not self._json_fields):
            return text
        # A record that was decoded without a member has that only in its class, where
        # the encoder does not look.
        plain = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
        # Only JSON values need it: typed fields are read back by their type.
        for name in self._json_fields:
            plain[name] = msgspec.Raw(dump_json(plain[name]))
        return _ENCODER.encode(plain)

    def check_size(self, record: Any, key: str, body: bytes) -> None:
        """Check that every store can hold a record.

        Args:
            record: the checked record.
            key: its key.
            body: its canonical JSON.

        Raises:
            InvalidRecord: the record, or a value in it, is too large.
        """
        if len(body) <= sizes.CLOSER_LOOK:
            return
        limit = sizes.STORABLE.record
        if len(body) > limit:
            raise InvalidRecord(
                f"the record has {len(body):,} bytes as JSON; {limit:,} can be stored",
                collection=self.collection,
                key=key,
                code="too-large",
            )
        for name in self._json_fields:
            try:
                sizes.check_value(getattr(record, name), body, sizes.STORABLE)
            except sizes.TooLargeError as error:
                raise InvalidRecord(
                    str(error),
                    collection=self.collection,
                    field=name,
                    key=key,
                    code="too-large",
                ) from None

    def decode(self, body: bytes | str) -> Any:
        """Decode a record.

        Raises:
            CorruptFile: the text is not a record of this collection.
        """
        try:
            return self._decoder.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise CorruptFile(
                str(error), path=f"a stored {self.collection} row"
            ) from error
