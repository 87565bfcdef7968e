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
    leases/NAME.json                        create-only, with an expiry

Names are relative, with forward slashes. Objects are written whole or not at all, are for
their owner only, and are never changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

__all__ = ["LAYOUT", "Repository", "StoredObject"]

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
            create_only: fail where an object of this name exists.

        Returns:
            The number of bytes.

        Raises:
            FileExistsError: ``create_only``, and there is one.
            ConfigError: a permission is missing.
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

    def read(self, name: str, *, limit: int = 64 << 20) -> bytes:
        """Read a small object whole.

        Raises:
            CorruptFile: it is larger than ``limit`` bytes.
            FileNotFoundError: there is none.
        """
        raise NotImplementedError


class Lease(ABC):
    """Lease that is held."""

    @abstractmethod
    def require(self) -> None:
        """Require that it is still held: to be called before anything that cannot be undone.

        Raises:
            LockTimeout: it could not be renewed in time, so another process may hold it.
        """
