"""Signing keys: HMAC-SHA256 for values that come back from where they can be changed."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

from typing_extensions import override

from pend_storage.errors import ConfigError

__all__ = ["SigningKeys"]

_LEAST_BYTES: Final = 32


class SigningKeys:
    """Keys that sign values. The first one signs, and all of them verify.

    A key is replaced in three steps: add the new one behind the old one everywhere, make it
    the first one everywhere, and remove the old one.
    """

    __slots__ = ("_keys", "_purpose")

    def __init__(self, purpose: bytes, keys: Iterable[bytes]) -> None:
        """Make keys for one purpose.

        Args:
            purpose: is signed, too, so that a value of another purpose is none of this one.
            keys: the one that signs first.
        """
        self._purpose = purpose
        self._keys = tuple(keys)

    @classmethod
    def parse(cls, text: str, *, purpose: bytes, place: str) -> SigningKeys:
        """Parse keys that are separated by commas.

        Args:
            text: the keys; spaces around them do not count.
            purpose: of the signatures.
            place: of the text, for the message, which does not quote the keys.

        Raises:
            ConfigError: a key is missing or too short.
        """
        keys = [
            word.strip().encode(errors="surrogateescape") for word in text.split(",")
        ]
        for key in keys:
            if len(key) < _LEAST_BYTES:
                raise ConfigError(
                    f"{place}: a signing key has {len(key)} bytes, and at least "
                    f"{_LEAST_BYTES} are needed. Make one by: openssl rand -hex 32. Two "
                    "keys are separated by a comma, the one that signs first."
                )
        return cls(purpose, keys)

    def sign(self, data: bytes) -> bytes:
        """Return the signature of some bytes: 32 bytes."""
        return self._digest(self._keys[0], data)

    def is_signature(self, signature: bytes, data: bytes) -> bool:
        """Return whether one of the keys has signed these bytes."""
        found = False
        for key in self._keys:
            # All keys are compared, each in constant time: the time says nothing of them.
            found |= hmac.compare_digest(self._digest(key, data), signature)
        return found

    def _digest(self, key: bytes, data: bytes) -> bytes:
        return hmac.digest(key, self._purpose + b"\0" + data, hashlib.sha256)

    @override
    def __repr__(self) -> str:
        return f"SigningKeys({self._purpose!r}, {len(self._keys)} of them)"
