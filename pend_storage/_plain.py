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


def plain(value: Any) -> Any:
    """Convert a result to values of JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_encodable(str(n)): plain(member) for n, member in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return _encodable(str(value)) if isinstance(value, str | Path) else value


def _encodable(text: str) -> str:
    """Escape lone surrogates, of file names that are no UTF-8: JSON cannot hold them."""
    return _SURROGATES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
