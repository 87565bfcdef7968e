"""Signature of the phase flag, by a key that operators and servers share."""

from __future__ import annotations

from typing import Final

import msgspec

from pend_storage._signing import SigningKeys

__all__ = ["FLAG_KEY_VARIABLE", "FlagKeys"]

FLAG_KEY_VARIABLE: Final = "PEND_FLAG_KEY"
"""Environment variable that has the keys, unless the configuration names another one."""
_PURPOSE: Final = b"pend_storage phase flag 1"


class FlagKeys:
    """Keys of the phase flag. The first one signs, and all of them verify."""

    def __init__(self, keys: SigningKeys) -> None:
        """Args: keys: for the purpose of the flag; see :meth:`parse`."""
        self._keys = keys

    @classmethod
    def parse(cls, text: str, *, place: str) -> FlagKeys:
        """Parse keys that are separated by commas.

        Args:
            text: the keys.
            place: of the text, for the message, which does not quote the keys.

        Raises:
            ConfigError: a key is missing or too short.
        """
        return cls(SigningKeys.parse(text, purpose=_PURPOSE, place=place))

    def sign(self, *members: str | int) -> str:
        """Return the signature of a value of the flag, in hexadecimal digits.

        Args:
            members: of the value, in a fixed order; the name of its place is one of them, so
                that the value of another place is none here.
        """
        return self._keys.sign(_bytes(members)).hex()

    def is_signed(self, signature: str, *members: str | int) -> bool:
        """Return whether a signature is by one of the keys. Arguments as in :meth:`sign`."""
        try:
            given = bytes.fromhex(signature)
        except ValueError:
            return False
        return self._keys.is_signature(given, _bytes(members))


def _bytes(members: tuple[str | int, ...]) -> bytes:
    return msgspec.json.encode(members)  # as JSON, no two values have one text
