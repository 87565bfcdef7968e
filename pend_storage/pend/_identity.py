"""Deterministic record keys: the same identity has the same key in every process."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from pend_storage.legacy._convert import hex_text
from pend_storage.legacy._record_ids import record_id

__all__ = ["canonical_hash", "record_id", "user_id_of"]

canonical_hash: Final = hex_text(64)
"""Canonical spelling of a hash of 32 bytes: lower case, with ``0x``."""


@lru_cache(maxsize=1 << 16)
def user_id_of(phone_hash: str) -> str:
    """Return the key of the user with a canonical phone hash.

    One phone number is one identity. So legacy files and new code, which do not know
    each other's records, arrive at the same user.
    """
    return record_id("users", phone_hash)
