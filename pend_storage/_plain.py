"""Plain values: results as values of JSON, the same in every document."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

__all__ = ["plain"]

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_EXACT: Final = 2**53
"""Integers above it are rounded by readers that know only floating-point numbers, such as
JavaScript, Grafana and DuckDB."""
_NUMBERED: Final = frozenset(
    {
        "above",
        "after",
        "commit",
        "highest",
        "primary_version",
        "secondary_version",
        "sequence",
        "upto",
        "versions",
    }
)
"""Members with sequence numbers and versions of records: always texts, whatever their size.
The epoch is a part of them, so that they pass :data:`_EXACT` from epoch 256 on, and a member
must not change its type one day."""


def plain(value: Any) -> Any:
    """Convert a result to values of JSON; numbers of the change log become texts.

    Other integers beyond 2**53 become texts as well.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # The version of a result is that of a record; of a mapping, that of a format.
        return {
            f.name: _member(f.name, getattr(value, f.name), is_record=True)
            for f in dataclasses.fields(value)
        }
    if hasattr(value, "__struct_fields__"):
        import msgspec  # noqa: PLC0415 - help needs no such value, and is quick without

        return plain(msgspec.to_builtins(value, enc_hook=plain))
    if isinstance(value, Mapping):
        return {
            _encodable(str(name)): _member(str(name), member, is_record=False)
            for name, member in value.items()
        }
    names: tuple[str, ...] | None = getattr(value, "_fields", None)
    if isinstance(value, tuple) and names is not None:
        members = zip(names, value, strict=True)
        return [_member(name, member, is_record=True) for name, member in members]
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, int) and abs(value) > _EXACT:
        return str(value)
    return _encodable(str(value)) if isinstance(value, str | Path) else value


def _member(name: str, value: Any, *, is_record: bool) -> Any:
    if name in _NUMBERED or (is_record and name == "version"):
        if isinstance(value, list | tuple):
            return [_number(item) for item in value]
        return _number(value)
    return plain(value)


def _number(value: Any) -> Any:
    is_number = isinstance(value, int) and not isinstance(value, bool | Enum)
    return str(value) if is_number else plain(value)


def _encodable(text: str) -> str:
    """Escape lone surrogates, of file names that are no UTF-8: JSON cannot hold them."""
    return _SURROGATES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
