"""Repository: where backups are kept, a folder or a bucket of objects.

.. code-block:: text

    repository.json                         version of the layout, create-only
    backups/ID/manifest.json                create-only, published last: what is not
                                            listed by a manifest does not exist
    backups/ID/rows-0001.zst[.age]          rows of a snapshot
    log/EPOCH-SEQUENCE.zst[.age]            segment of the archived change log
    log/EPOCH-SEQUENCE.json                 its manifest, published last; names the segment
                                            before it by its hash
    facts/ID/KIND-TIME.json                 verified, drilled, pinned, failed: written later
    leases/NAME/NUMBER.json                 create-only, with an expiry; the highest counts

Names are relative, with forward slashes. Objects are written whole or not at all, are for
their owner only, and are never changed.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pend_storage._shown import shown
from pend_storage.errors import ConfigError, CorruptFile

__all__ = ["LAYOUT", "SMALL", "Lease", "Repository", "StoredObject", "require_name"]

LAYOUT: Final = 2
"""Version of the layout; copies of directories before a migration have 1."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Object of a repository, as a listing shows it."""

    name: str
    size: int
    """In bytes."""
    modified: datetime
    """UTC."""


SMALL: Final = 64 << 20
"""Bytes of an object that is read whole, or is written with ``create_only``, at most."""
_NAME: Final = re.compile(r"[A-Za-z0-9_][\w.=-]{0,199}", re.ASCII)
_LONGEST: Final = 700  # bytes; a key of S3 has 1,024, with the prefix of the repository


def require_name(name: str) -> tuple[str, ...]:
    """Return the parts of the name of an object.

    Names come from manifests too, and so from everyone who can write to the repository.

    Raises:
        ConfigError: it is none; nothing outside of the repository has a name in it.
    """
    parts = tuple(name.split("/"))
    if len(name) > _LONGEST or not all(map(_NAME.fullmatch, parts)):
        raise ConfigError(
            f"{shown(name)} is not the name of an object of a repository: letters, digits "
            "and _ . - = in parts between slashes. Correct what names it."
        )
    return parts


class Repository(ABC):
    """Place of backups. Safe to use from any number of threads and processes."""

    url: str
    """Address, without anything secret."""

    @abstractmethod
    def put(
        self, name: str, content: Iterable[bytes], *, create_only: bool = False
    ) -> int:
        """Write an object, durably: another process sees all of it, or none.

        Args:
            name: of the object.
            content: in pieces, for a stream of any length.
            create_only: fail where an object of this name exists. Of several writers at
                the same time one succeeds. The content has at most :data:`SMALL` bytes.

        Returns:
            The number of bytes.

        Raises:
            FileExistsError: ``create_only``, and there is one.
            ConfigError: a permission is missing, or the name is none.
            StoreUnavailable: the repository cannot be reached, or is full.
        """

    @abstractmethod
    def get(self, name: str) -> Iterator[bytes]:
        """Read an object in pieces.

        Raises:
            FileNotFoundError: there is none; at the call or at the first piece.
            ConfigError: a permission is missing.
            StoreUnavailable: the repository cannot be reached.
        """

    @abstractmethod
    def list(self, prefix: str) -> list[StoredObject]:
        """List the objects below a prefix that ends with a slash, sorted by name."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete an object; one that is not there is no error."""

    @abstractmethod
    def free_bytes(self) -> int | None:
        """Return the free space; None where there is no limit, or it is not known."""

    @abstractmethod
    def lease(
        self, name: str, *, seconds: float = 120.0, wait: float = 0.0
    ) -> AbstractContextManager[Lease]:
        """Hold a lease, alone among all hosts: it is renewed in the background.

        A holder that died loses it after its expiry.

        Args:
            name: of the lease.
            seconds: until it expires unless it is renewed.
            wait: seconds to wait for another holder.

        Raises:
            LockTimeout: another process holds it; the error names host, process, since when.
            StoreUnavailable: the repository cannot be reached.
        """

    def require_exclusive_creation(self) -> None:  # noqa: B027 - most kinds need no proof
        """Require that ``create_only`` holds: to be called once, for a new repository.

        Raises:
            ConfigError: the server ignores it, so leases and manifests would not be safe.
        """

    def remove_leftovers(self) -> int:
        """Remove what writers that died left behind, which no listing shows.

        Returns:
            The number of files that were removed.
        """
        return 0

    def read(self, name: str, *, limit: int = SMALL) -> bytes:
        """Read a small object whole.

        Raises:
            CorruptFile: it is larger than ``limit`` bytes.
            FileNotFoundError: there is none.
        """
        pieces: list[bytes] = []
        size = 0
        for piece in self.get(name):
            size += len(piece)
            if size > limit:
                reason = f"it has more than {limit:,} bytes, which none of its kind has"
                raise CorruptFile(reason, path=f"{self.url}/{name}")
            pieces.append(piece)
        return b"".join(pieces)


class Lease(ABC):
    """Lease that is held."""

    @abstractmethod
    def require(self) -> None:
        """Require that it is still held: to be called before anything that cannot be undone.

        Raises:
            LockTimeout: it could not be renewed in time, so another process may hold it.
        """
