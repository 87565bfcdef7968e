"""Keys that follow from what a record is about, the same whenever and wherever made."""

from __future__ import annotations

import hashlib
import uuid
from functools import lru_cache
from typing import Final

from pend_storage.legacy.convert import hex_text

__all__ = ["canonical_hash", "record_id", "user_id_of"]

_NAMESPACE: Final = uuid.UUID("1d8f6f0a-6a52-5c1b-9d61-2a6f0f1c7a11").bytes
_VARIANT: Final = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}

canonical_hash: Final = hex_text(64)
"""A hash of 32 bytes in its one spelling: lower case, with ``0x``."""


def record_id(kind: str, *parts: str) -> str:
    """A version 5 UUID as lower-case text.

    The same as ``uuid.uuid5``, which takes three times as long; imports make millions.
    """
    name = "\n".join((kind, *parts)).encode(errors="surrogatepass")
    made = hashlib.sha1(_NAMESPACE + name, usedforsecurity=False).hexdigest()
    return (
        f"{made[:8]}-{made[8:12]}-5{made[13:16]}-"
        f"{_VARIANT[made[16]]}{made[17:20]}-{made[20:32]}"
    )


@lru_cache(maxsize=1 << 16)
def user_id_of(phone_hash: str) -> str:
    """The key of the user with this (canonical) phone hash.

    One phone number is one identity, so that files and new code, which do not know of
    each other, arrive at the same user.
    """
    return record_id("users", phone_hash)
