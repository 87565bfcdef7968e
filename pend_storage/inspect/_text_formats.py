"""Text formats: times, hashes, amounts, addresses."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["SENSITIVE_FORMATS", "format_of"]

_FORMATS: Final = (
    ("time", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z"),
    ("local", r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:[+-]\d\d:?\d\d)?"),
    ("date", r"\d{4}-\d\d-\d\d"),
    ("uuid", r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"),
    ("hash", r"(?:0x)?(?:[0-9a-fA-F]{64}|[0-9a-fA-F]{40}|[0-9a-fA-F]{32})"),
    ("email", r"[^@\s]{1,64}@[^@\s]{1,190}\.[A-Za-z]{2,24}"),
    ("url", r"https?://\S+"),
    ("integer", r"-?(?:0|[1-9][0-9]{0,99})"),
    ("decimal", r"-?(?:0|[1-9][0-9]{0,99})\.[0-9]{1,100}"),
    ("phone", r"\+[0-9][0-9 ()\-]{6,18}|0[0-9]{8,14}"),
)  # fmt: skip
_MATCH: Final = re.compile(
    "|".join(f"(?P<{name}>{pattern})" for name, pattern in _FORMATS), re.ASCII
).fullmatch
_LONGEST: Final = 300
"""Longer texts have no format."""

SENSITIVE_FORMATS: Final = frozenset({"email", "phone"})


def format_of(text: str) -> str | None:
    """Return the format of a text; None where it has none of the known ones."""
    if len(text) > _LONGEST:
        return None
    found = _MATCH(text)
    return None if found is None else found.lastgroup
