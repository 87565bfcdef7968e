"""What a backend must be able to do so that its servers can be exchanged under test."""

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
    """What another server stands behind the address afterwards.

    The first three lose what was committed after a copy was taken; the others lose
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
        """Whether commits are lost by the exchange itself."""
        return self in {
            Exchange.LAGGING_STANDBY,
            Exchange.OLDER_DUMP,
            Exchange.PUT_BACK,
        }


class Servers(ABC):
    """The servers of one run, all behind one address. Use ``with``.

    An exchange takes three calls: :meth:`prepare` takes the copy, standby or dump; later
    :meth:`exchange` puts it behind the address, while nothing passes; :meth:`retire` ends
    what stood there before.
    """

    exchanges: ClassVar[tuple[Exchange, ...]] = tuple(Exchange)
    """Those that this backend can do."""
    address: Address

    @abstractmethod
    def open(self, schema: Schema, *, pooled: bool, hook: Hook) -> Store:
        """A store that works through the address, its schema up to date.

        Args:
            schema: of the store.
            pooled: connections may be moved to another server between two transactions,
                as behind a pooler; the store must be told so where it matters.
            hook: gets the store's events.
        """

    @abstractmethod
    def peek(self) -> tuple[Role, Contents]:
        """Role and notes of what is behind the address now, past address and store.

        A store that opens the database may put right what the run is to find wrong; so
        read the notes without it.
        """

    @abstractmethod
    def prepare(self, exchange: Exchange) -> None:
        """Take the copy that an exchange needs; the address works meanwhile."""

    @abstractmethod
    def exchange(self, exchange: Exchange) -> None:
        """Put another server behind the address; called while nothing passes."""

    @abstractmethod
    def retire(self, exchange: Exchange) -> None:
        """End what stood behind the address before, where it is not to stay."""

    @abstractmethod
    def put_empty(self) -> None:
        """Put a server behind the address that was never used, its schema up to date."""

    @abstractmethod
    def close(self) -> None:
        """End everything."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
