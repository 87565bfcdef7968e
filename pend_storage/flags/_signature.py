"""Signature of the phase flag: HMAC-SHA256 by a key that operators and servers share."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

import msgspec
from typing_extensions import override

from pend_storage.errors import ConfigError

__all__ = ["FLAG_KEY_VARIABLE", "FlagKeys"]

FLAG_KEY_VARIABLE: Final = "PEND_FLAG_KEY"
"""Environment variable that has the keys, unless the configuration names another one."""
_LEAST_BYTES: Final = 32
_PURPOSE: Final = "pend_storage phase flag 1"


class FlagKeys:
    """Keys of the phase flag. The first one signs, and all of them verify.

    A key is replaced in three steps: add the new one behind the old one everywhere, make it
    the first one everywhere, and remove the old one.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: Iterable[bytes]) -> None:
        """Args: keys: the one that signs first."""
        self._keys = tuple(keys)

    @classmethod
    def parse(cls, text: str, *, place: str) -> FlagKeys:
        """Parse keys that are separated by commas.

        Args:
            text: the keys; spaces around them do not count.
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
                    f"{place}: a key of the phase flag has {len(key)} bytes, and at least "
                    f"{_LEAST_BYTES} are needed. Make one by: openssl rand -hex 32. Two "
                    "keys are separated by a comma, the one that signs first."
                )
        return cls(keys)

    def sign(self, *members: str | int) -> str:
        """Return the signature of a value of the flag, in hexadecimal digits.

        Args:
            members: of the value, in a fixed order; the name of its place is one of them, so
                that the value of another place is none here.
        """
        return _digest(self._keys[0], members)

    def is_signed(self, signature: str, *members: str | int) -> bool:
        """Return whether a signature is by one of the keys. Arguments as in :meth:`sign`."""
        given = signature.encode(errors="replace")
        found = False
        for key in self._keys:
            expected = _digest(key, members).encode()
            # All keys are compared, each in constant time: the time says nothing of them.
            found |= hmac.compare_digest(expected, given)
        return found

    @override
    def __repr__(self) -> str:
        return f"FlagKeys({len(self._keys)} of them)"


def _digest(key: bytes, members: tuple[str | int, ...]) -> str:
    # As JSON, so that no two values have one text.
    text = msgspec.json.encode([_PURPOSE, *members])
    return hmac.new(key, text, hashlib.sha256).hexdigest()
