"""Servers of a backend that tests can exchange: the interface of a backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import ClassVar, Self

from pend_storage.events import Hook
from pend_storage.phases import Role
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.testing.hostile._address import Address
from pend_storage.testing.hostile._ledger import Contents

__all__ = ["Exchange", "Servers"]


class Exchange(Enum):
    """Kind of server that is behind the address afterwards.

    The first three lose what was committed after the copy was taken; the others lose
    nothing.
    """

    LAGGING_STANDBY = "a lagging standby was promoted"
    OLDER_DUMP = "an older dump was restored into another cluster"
    PUT_BACK = "the database was put back in place by some commits"
    YOUNGER_CLUSTER = "the database was moved into a cluster with smaller numbers"
    READ_ONLY = "a standby was promoted, the former primary stays up read-only"
    RESTARTED = "the same server was restarted"

    @property
    def loses(self) -> bool:
        """Return True if the exchange itself loses commits."""
        return self in {
            Exchange.LAGGING_STANDBY,
            Exchange.OLDER_DUMP,
            Exchange.PUT_BACK,
        }


class Servers(ABC):
    """Servers of one run, all behind one address. Use ``with``.

    An exchange takes three calls: :meth:`prepare` takes the copy, standby or dump;
    later :meth:`exchange` puts it behind the address, while no data passes;
    :meth:`retire` stops the former server.
    """

    exchanges: ClassVar[tuple[Exchange, ...]] = tuple(Exchange)
    """Exchanges that this backend supports."""
    address: Address

    @abstractmethod
    def open(self, schema: Schema, *, pooled: bool, hook: Hook) -> Store:
        """Open a store that connects through the address, its schema up to date.

        Args:
            schema: schema of the store.
            pooled: connections may be moved to another server between two transactions,
                as behind a pooler; the store must be configured for it if that matters.
            hook: called with the store's events.
        """

    @abstractmethod
    def peek(self) -> tuple[Role, Contents]:
        """Return role and notes of the present server, past the address and the store.

        A store that opens the database may repair what the run is to detect; so read
        the notes without it.
        """

    @abstractmethod
    def prepare(self, exchange: Exchange) -> None:
        """Take the copy that an exchange needs; the address works meanwhile."""

    @abstractmethod
    def exchange(self, exchange: Exchange) -> None:
        """Put another server behind the address; called while no data passes."""

    @abstractmethod
    def retire(self, exchange: Exchange) -> None:
        """Stop the former server, unless the exchange keeps it."""

    @abstractmethod
    def put_empty(self) -> None:
        """Put a new, empty server behind the address, its schema up to date."""

    @abstractmethod
    def close(self) -> None:
        """Stop all servers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
