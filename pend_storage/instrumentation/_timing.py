"""Timing of calls: the clock, and the barrier for the exceptions of instruments."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import count
from time import perf_counter
from typing import Final, ParamSpec, TypeVar

from pend_storage._shown import shown
from pend_storage.events import Event, Hook
from pend_storage.instrumentation._seam import Instruments

__all__ = ["NOT_COUNTED", "Count", "Timing"]

P = ParamSpec("P")
T = TypeVar("T")

Count = Callable[[str, int, str], None]
"""Counts a fact: see :meth:`Instruments.counted`."""


def NOT_COUNTED(_fact: str, _amount: int, _kind: str) -> None:  # noqa: N802 - a constant
    """Count nothing: of a store without instruments."""


class Timing:
    """Timing of the calls of one store, for its instruments. Safe to share.

    Durations are of the monotonic clock, so a change of the system's time cannot make one
    negative.
    """

    __slots__ = ("_failures", "_hook", "instruments", "record", "store")

    def __init__(self, instruments: Instruments, store: str, hook: Hook) -> None:
        """Time the calls of a store.

        Args:
            instruments: get the durations.
            store: name of the store that answers; a pair sets it to that of its primary.
            hook: gets the event ``instruments-failed``.
        """
        self.instruments = instruments
        self.record = instruments.timed
        """Records a call; may raise: see :meth:`failed`."""
        self.store = store
        self._hook = hook
        self._failures = count()

    def done(
        self,
        operation: str,
        collection: str,
        seconds: float,
        error: BaseException | None = None,
    ) -> None:
        """Record a call that has ended; never raises."""
        name = None if error is None else type(error).__name__
        try:
            self.record(operation, collection, self.store, seconds, name)
        except Exception as failure:  # noqa: BLE001 - whatever it is, the call goes on
            self.failed(failure)

    def counted(self, fact: str, amount: int, kind: str = "") -> None:
        """Count a fact; never raises."""
        try:
            self.instruments.counted(fact, amount, kind)
        except Exception as failure:  # noqa: BLE001 - whatever it is, the work goes on
            self.failed(failure)

    def failed(self, error: Exception) -> None:
        """Report the first exception of the instruments; later ones are not reported."""
        if next(self._failures) == 0:
            self._hook(
                Event(
                    "instruments-failed",
                    f"the instruments {shown(type(self.instruments).__name__)} raised "
                    f"{shown(error)}: what they should have recorded is lost, and later "
                    "failures are not reported. Correct them.",
                    logging.ERROR,
                    {"instruments": type(self.instruments).__name__},
                )
            )

    def call(
        self,
        operation: str,
        collection: str,
        fn: Callable[P, T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Call a function, and record its duration and its exception."""
        started = perf_counter()
        try:
            answer = fn(*args, **kwargs)
        except BaseException as error:
            self.done(operation, collection, perf_counter() - started, error)
            raise
        self.done(operation, collection, perf_counter() - started)
        return answer

    def iterated(
        self, operation: str, collection: str, items: Iterator[T]
    ) -> Iterator[T]:
        """Iterate, and record the time that the items took, without that of the caller.

        It is recorded at the end, or where the caller stops.
        """
        spent, failure = 0.0, None
        try:
            while True:
                started = perf_counter()
                try:
                    item = next(items)
                except StopIteration:
                    return
                finally:
                    spent += perf_counter() - started
                yield item
        except GeneratorExit:
            raise
        except BaseException as error:
            failure = error
            raise
        finally:
            self.done(operation, collection, spent, failure)


_UNNAMED: Final = "store"


def store_name(kind: type) -> str:
    """Return the name of a store by its class: ``json`` of ``JsonStore``."""
    name = kind.__name__.removesuffix("Store").lower()
    return name or _UNNAMED
