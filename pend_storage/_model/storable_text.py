"""Storable texts: those that every store can hold."""

from __future__ import annotations

import re
from typing import Any, Final

from pend_storage._model.limits import MAX_INDEXED_BYTES

__all__ = [
    "UNSTORABLE",
    "UnstorableTextError",
    "is_key",
    "is_storable",
    "order_bound",
    "safe_text",
    "storable_part",
]

UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
"""U+0000, which PostgreSQL cannot hold, and lone surrogates, which UTF-8 cannot."""


def is_storable(text: str) -> bool:
    """Return whether every store can hold a text."""
    return UNSTORABLE.search(text) is None


def is_key(value: Any) -> bool:
    """Return whether a record can have this key: a storable text that an index holds."""
    # The length first: the text may come from a request.
    is_short = isinstance(value, str) and len(value) <= MAX_INDEXED_BYTES
    return is_short and is_storable(value)


def safe_text(text: str) -> str:
    """Escape NUL and lone surrogates, so that every store can hold the text."""
    return UNSTORABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class UnstorableTextError(ValueError):
    """A text that not every store can hold, so that no record has it."""


def storable_part(text: str) -> str:
    """Return the text up to the first character that cannot be stored."""
    found = UNSTORABLE.search(text)
    return text if found is None else text[: found.start()]


def order_bound(text: str) -> tuple[str, bool]:
    """Return a storable text by which storable texts are ordered as by an unstorable one.

    Returns:
        The bound, and whether the bound itself is above the text: then the storable
        texts above the text are the bound and those above it. Else they are those above
        the bound, and the bound is below the text.

    Args:
        text: holds a character that cannot be stored.
    """
    before = storable_part(text)
    if text[len(before)] == "\x00":  # below every character that can follow
        return before, False
    return before + "\ue000", True  # the first character above the surrogates
