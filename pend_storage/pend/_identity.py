"""Keys that follow from what a record is about, the same whenever and wherever made."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from pend_storage.legacy._convert import hex_text
from pend_storage.legacy._record_ids import record_id

__all__ = ["canonical_hash", "record_id", "user_id_of"]

canonical_hash: Final = hex_text(64)
"""A hash of 32 bytes in its one spelling: lower case, with ``0x``."""


@lru_cache(maxsize=1 << 16)
def user_id_of(phone_hash: str) -> str:
    """The key of the user with this (canonical) phone hash.

    One phone number is one identity, so that files and new code, which do not know of
    each other, arrive at the same user.
    """
    return record_id("users", phone_hash)
