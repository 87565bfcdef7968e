"""Streams of a repository: compressed, hashed, and encrypted on their way.

Reading verifies everything: the hash of the stored bytes, the end of the compressed frame,
the authentication of each encrypted block, and the hash of the content. What is read from
an encrypted or compressed stream is known to be right only at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pend_storage.backup._manifest import Part
from pend_storage.backup._repository import Repository

__all__ = ["Keys", "put_stream", "read_stream"]


class Keys:
    """Public keys to encrypt to, and identities to decrypt with."""

    def __init__(
        self, encrypt_to: Sequence[str] = (), identities: Sequence[str] = ()
    ) -> None:
        """Check the keys.

        Args:
            encrypt_to: ``age1...`` recipients; none: nothing is encrypted.
            identities: ``AGE-SECRET-KEY-...``; needed only to read.

        Raises:
            ConfigError: a key is none.
        """


def put_stream(
    repository: Repository,
    name: str,
    content: Iterable[bytes],
    keys: Keys,
    *,
    collection: str | None = None,
    items: int = 0,
) -> Part:
    """Write a stream to an object, ``.zst`` or ``.zst.age`` is added to its name.

    Raises: as :meth:`Repository.put`.
    """
    raise NotImplementedError


def read_stream(repository: Repository, part: Part, keys: Keys) -> Iterator[bytes]:
    """Read the content of an object in pieces; everything is verified by the last one.

    Raises:
        CorruptFile: what is stored differs from what was written; the object is named.
        ConfigError: no identity can decrypt it, or its packages are not installed.
        FileNotFoundError: it is missing.
    """
    raise NotImplementedError
