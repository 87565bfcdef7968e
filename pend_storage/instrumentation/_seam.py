"""Instruments: what a store reports its timings, counters and events to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias, runtime_checkable

from pend_storage.events import Event

__all__ = ["OPERATIONS", "Counted", "Instruments", "Timed"]

Timed: TypeAlias = Callable[[str, str, str, float, str | None], None]
"""Records one call: see :meth:`Instruments.timed`."""
Counted: TypeAlias = Callable[[str, int], None]
"""Counts a fact: see :meth:`Instruments.counted`."""

OPERATIONS: Final = (
    "get",
    "get_many",
    "get_by",
    "versioned",
    "find",
    "count",
    "scan",
    "put",
    "put_many",
    "delete",
    "commit",
    "load",
    "save",
    "switch",
)
"""Operations that are timed. ``commit`` is the end of a transaction, or a change by a view
of a legacy file; the reads of a transaction are timed by their own names, and its writes
take place in it. ``load`` and ``save`` are the two halves of the verbs of whole files."""


@runtime_checkable
class Instruments(Protocol):
    """Instruments of a store: get the duration of each call, counts, and events.

    Called in the thread of the caller, so they must be quick and thread-safe. An exception
    that they raise is reported once, by the event ``instruments-failed``, and has no other
    effect.
    """

    def timed(
        self,
        operation: str,
        collection: str,
        store: str,
        seconds: float,
        error: str | None,
        /,
    ) -> None:
        """Record one call of a user.

        Args:
            operation: one of ``get get_many get_by versioned find count scan put put_many
                delete commit load save switch``.
            collection: its name; of ``load`` and ``save`` that of the file; empty for
                ``commit`` and ``switch``.
            store: the store that answered: ``json``, ``postgres``, ``memory``; of a pair
                its primary. The class of a store of one's own.
            seconds: duration, by the monotonic clock; of ``scan`` without the time that
                the caller spends between the records.
            error: class of the exception that the call raised; None: it raised none.
        """

    def counted(self, fact: str, amount: int, /) -> None:
        """Count something that happens beside the calls.

        Args:
            fact: ``relay_applied``: commits that the relay applied to the secondary;
                ``merged_commits``: commits that one transaction of the store made together.
            amount: how many.
        """

    def event(self, event: Event, /) -> None:
        """Count an event; it is called as a hook, see :class:`~pend_storage.Hook`."""
