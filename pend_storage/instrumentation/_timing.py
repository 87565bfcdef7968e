"""Timing of calls: the clock, and the barrier for the exceptions of instruments."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import count
from time import perf_counter
from typing import Final, ParamSpec, TypeAlias, TypeVar

from pend_storage._shown import shown
from pend_storage.events import Event, Hook, guarded
from pend_storage.instrumentation._seam import Instruments

__all__ = ["Count", "Timing", "counting", "hook_of", "timing"]

P = ParamSpec("P")
T = TypeVar("T")

Count: TypeAlias = Callable[[str, int], None]
"""Counts a fact: see :meth:`Instruments.counted`. It never raises."""


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

    def counted(self, fact: str, amount: int) -> None:
        """Count a fact; never raises."""
        try:
            self.instruments.counted(fact, amount)
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


def hook_of(hook: Hook, instruments: Instruments | None) -> Hook:
    """Return the hook of a store, which counts its events, too.

    Args:
        hook: of the application, guarded.
        instruments: of the store.
    """
    return hook if instruments is None else guarded((hook, instruments.event))


def timing(
    instruments: Instruments | None, owner: type | str, hook: Hook
) -> Timing | None:
    """Return the timing of a store; None without instruments.

    Args:
        instruments: of the store.
        owner: name of the store, or its class: ``json`` of ``JsonStore``.
        hook: of the store.
    """
    if instruments is None:
        return None
    name = owner if isinstance(owner, str) else owner.__name__.removesuffix("Store")
    return Timing(instruments, name.lower() or _UNNAMED, hook)


def counting(found: Timing | None) -> Count | None:
    """Return what counts the facts of a store; None without instruments."""
    return None if found is None else found.counted


_UNNAMED: Final = "store"
