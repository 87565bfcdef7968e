"""Exact JSON: lossless parsing and printing; no value is rounded, dropped or changed.

Parsers disagree where files are irregular: of two members of one name most keep the
last, long decimals are rounded, ``NaN`` is accepted. Here a text is either parsed to
exactly its value, or refused with the reason.

Numbers are normalized by value: ``1.0`` is read as 1, ``1e21`` as an integer too, and
``-0.0`` as 0. A number with a fraction that no float holds is an :class:`ExactFloat`,
which keeps its digits.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NoReturn, Self, TypeAlias

import msgspec

from pend_storage._model.diff import equal
from pend_storage._model.limits import MAX_DIGITS
from pend_storage._shown import shown

__all__ = [
    "ExactFloat",
    "Path",
    "UnreadableError",
    "as_decimal",
    "as_number",
    "as_plain",
    "digest",
    "dump",
    "exact_numbers",
    "normal",
    "read",
    "read_last",
    "same",
    "with_numbers",
]

Path: TypeAlias = Sequence[str | int]
"""Path to a value: member names and list indices."""

_DECODE: Final = msgspec.json.Decoder().decode
_ENCODE: Final = msgspec.json.Encoder().encode
_ENCODE_SORTED: Final = msgspec.json.Encoder(order="sorted").encode
_COMPACT: Final = msgspec.json.format
_ZERO_FRACTION: Final = re.compile(rb"\.0(?:[,\]}]|$)")
# Hashes are full of "1e5", but not before a comma.
_EXPONENT: Final = re.compile(rb"e-?\d+(?:[,\]}]|$)")
_PLAIN: Final = frozenset({str, int, bool, float, type(None)})
_JS_DECIMAL_FROM: Final = Decimal("1e-6")


class UnreadableError(ValueError):
    """A text is refused, or a record cannot be placed.

    Attributes:
        code: of quarantine, see :data:`~pend_storage.legacy._quarantine.CODES`.
        reason: a sentence for operators.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class ExactFloat(float):
    """Float that keeps its decimal digits, because it cannot hold them exactly."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        """Make a float from its digits."""
        self = super().__new__(cls, text)
        self.text = text
        return self


# -- reading ------------------------------------------------------------------------


def read(text: bytes) -> tuple[Any, bool]:
    """Parse a JSON text exactly.

    Returns:
        The value, and whether it contains an :class:`ExactFloat`.

    Raises:
        UnreadableError: not JSON, a member twice, NaN or Infinity, too long, too deep.
    """
    try:
        value = _DECODE(text)
        again = _ENCODE(value)
        # A round trip that restores the text has lost nothing: the fast parser will do.
        if again == _COMPACT(text, indent=-1) and not _has_odd_floats(again):
            return value, False
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    return _Reader().read(text)


def read_last(text: bytes) -> Any:
    """Parse a JSON text; of duplicate member names the last wins.

    Raises:
        UnreadableError: as by :func:`read`, except for duplicate members.
    """
    return _Reader(dict).read(text)[0]


def _has_odd_floats(compact: bytes) -> bool:
    """Return whether a text of msgspec may hold integers as floats, or minus zero."""
    return (b".0" in compact and _ZERO_FRACTION.search(compact) is not None) or (
        _EXPONENT.search(compact) is not None
    )


class _Reader:
    """Strict parser on top of the standard library's: refuses ambiguous texts; slower."""

    def __init__(
        self, members: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None
    ) -> None:
        self._members = members or _members
        self._exact = False

    def read(self, text: bytes) -> tuple[Any, bool]:
        decoder = json.JSONDecoder(
            object_pairs_hook=self._members,
            parse_float=self._number,
            parse_int=_integer,
            parse_constant=_constant,
        )
        try:
            return decoder.decode(text.decode()), self._exact
        except UnreadableError:
            raise
        except RecursionError as error:
            raise UnreadableError("too-deep", "it is nested too deeply") from error
        except ValueError as error:
            raise UnreadableError("not-json", f"it is not JSON: {error}") from error

    def _number(self, text: str) -> float:
        value = as_number(text)
        self._exact = self._exact or isinstance(value, ExactFloat)
        return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise UnreadableError("duplicate-member", f"the member {shown(twice)} occurs twice")


def _constant(word: str) -> NoReturn:
    raise UnreadableError("not-a-number", f"{word} is not JSON")


def _too_long() -> UnreadableError:
    return UnreadableError(
        "number-too-long", f"a number has more than {MAX_DIGITS:,} digits"
    )


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise _too_long()
    return int(text)


def as_number(text: str) -> int | float:
    """Parse a JSON number with a point or an exponent to its exact value.

    Raises:
        UnreadableError: the number has too many digits.
    """
    try:
        exact = Decimal(text)
    except ArithmeticError as error:
        raise _too_long() from error
    if not exact:
        return 0
    if exact.adjusted() >= MAX_DIGITS:
        raise _too_long()
    if exact == exact.to_integral_value():
        return int(exact)
    value = float(text)
    if math.isinf(value):
        raise _too_long()
    return value if exact == Decimal(repr(value)) else ExactFloat(text)


# -- comparing ------------------------------------------------------------------------


def as_decimal(value: float | Decimal) -> Decimal:
    """Return the exact value of a JSON number."""
    if isinstance(value, ExactFloat):
        return Decimal(value.text)
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def same(left: Any, right: Any) -> bool:
    """Return whether two values are equal to the last digit; true is not 1."""
    if not equal(left, right):
        return False
    return dict(exact_numbers(left)) == dict(exact_numbers(right))


def exact_numbers(
    value: Any, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the path and digits of each :class:`ExactFloat` in a value."""
    if isinstance(value, ExactFloat):
        yield path, value.text
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from exact_numbers(item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from exact_numbers(item, (*path, index))


def with_numbers(value: Any, numbers: Sequence[tuple[Path, str]]) -> Any:
    """Restore exact digits in a copy of a value, where the float is unchanged."""
    for path, text in numbers:
        value = _with_number(value, path, text)
    return value


def _with_number(value: Any, path: Path, text: str) -> Any:
    if not path:
        untouched = type(value) in {int, float} and value == float(text)
        return ExactFloat(text) if untouched else value
    step, rest = path[0], path[1:]
    if isinstance(value, Mapping) and step in value:
        return {**value, str(step): _with_number(value[str(step)], rest, text)}
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return [
            *value[:step],
            _with_number(value[step], rest, text),
            *value[step + 1 :],
        ]
    return value


# -- writing --------------------------------------------------------------------------


def normal(value: Any) -> Any:
    """Normalize a value as a round trip does: integral floats become integers."""
    if type(value) is float and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: normal(item) for name, item in value.items()}
    if isinstance(value, list):
        return [normal(item) for item in value]
    return value


def digest(value: Any) -> str:
    """Hash a normal value: SHA-256 of its compact text, members sorted; 64 hex digits.

    Raises:
        UnreadableError: a text in it holds a lone surrogate.
    """
    try:
        try:
            text = _ENCODE_SORTED(value)
        except TypeError:  # an ExactFloat
            text = _ENCODE_SORTED(_with_raw_numbers(value))
    except UnicodeEncodeError as error:
        raise UnreadableError(
            "unstorable", "a text holds half a character (a lone surrogate)"
        ) from error
    return hashlib.sha256(text).hexdigest()


def dump(value: Any) -> bytes:
    """Print compact JSON, with numbers as JavaScript prints them."""
    try:
        text = _ENCODE(value)
    except TypeError:  # an ExactFloat
        return _ENCODE(_with_raw_numbers(value))
    return _ENCODE(_with_raw_numbers(value)) if _has_odd_floats(text) else text


def _with_raw_numbers(value: Any) -> Any:
    if type(value) is ExactFloat:
        return msgspec.Raw(value.text.encode())
    if type(value) is float:
        return msgspec.Raw(_printed(value).encode())
    if isinstance(value, Mapping):
        return {name: _with_raw_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_raw_numbers(item) for item in value]
    return value


def _printed(value: float) -> str:
    """Print a float as ``Number.prototype.toString``; integers with all their digits."""
    if value.is_integer():
        return str(int(value))
    exact = Decimal(repr(value))
    if abs(exact) >= _JS_DECIMAL_FROM:
        return f"{exact:f}"
    digits, _, exponent = repr(value).partition("e")
    return f"{digits}e{int(exponent):+d}"


def as_plain(value: Any) -> Any:
    """Return a value with plain floats, as from ``json.loads``; unchanged if it has no other."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        for item in value.values():
            if type(item) not in _PLAIN:
                break
        else:  # nearly always: nothing in it is nested
            return value
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {name: as_plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [as_plain(item) for item in value]
    return value
