"""Many asyncio clients of one process: how much they get done, and how long they wait.

Closed loop: each client makes its next call as soon as the one before is answered. Paced:
each has calls that are due at certain moments, whatever became of those before; the wait
counts from the moment at which a call was due, so that a stall is not hidden by the calls
that it kept from being made.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import resource
import statistics
import time
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from benchmarks.case import Traffic
from benchmarks.measure import Sample

__all__ = ["AsyncOperation", "Calls", "CpuTime", "Window", "drive"]

AsyncOperation: TypeAlias = Callable[[int], Awaitable[object]]
"""One call to be timed; gets the number of the call, from 0 on."""
CpuTime: TypeAlias = Callable[[], float | None]
"""Seconds of processor time that a process has used up to now; None: not visible."""

_SEED: Final = 5
_WARM_UP: Final = 1.0
"""Times the length of a slice: before the clock starts, clients must have spread over all
that they may wait for, or what is quick would be counted more often than it is wanted."""


class Calls(NamedTuple):
    """Calls of a client."""

    get: AsyncOperation
    """Answers with a record's values."""
    put: AsyncOperation
    """The record is durable when it answers."""


@dataclass(slots=True)
class Window:
    """The part of a run that counts, and what happened in it."""

    begin: float = math.inf
    end: float = math.inf
    gets: int = 0
    puts: int = 0
    waits: array[float] = field(default_factory=lambda: array("d"))

    def note(self, due: float, answered: float, *, is_put: bool) -> None:
        """A call was answered; its wait counts if it was due inside, however late."""
        if self.begin <= answered <= self.end:
            self.puts += is_put
            self.gets += not is_put
        if self.begin <= due <= self.end:
            self.waits.append(answered - due)


async def drive(
    calls: Calls, traffic: Traffic, seconds: float, server: CpuTime, first: int = 0
) -> Sample:
    """Let all clients call for a while, and measure the middle of it.

    Args:
        calls: of the contender, which is open.
        traffic: how many clients, and what they do.
        seconds: length of what counts.
        server: processor time of the database.
        first: number of the first call.
    """
    window = Window()
    numbers = itertools.count(first)
    clients = [
        asyncio.ensure_future(_client(calls, traffic, place, numbers, window))
        for place in range(traffic.clients)
    ]
    try:
        await asyncio.sleep(_WARM_UP * seconds)
        server_before, own_before = server(), _own_cpu()
        window.begin = time.perf_counter()
        await asyncio.sleep(seconds)
        window.end = time.perf_counter()
        own, server_after = _own_cpu() - own_before, server()
        await asyncio.gather(*clients)
    finally:
        for client in clients:
            client.cancel()
    done = window.gets + window.puts
    details = _waits(window)
    details["client µs"] = 1e6 * own / max(done, 1)
    if server_before is not None and server_after is not None:
        details["server µs"] = 1e6 * (server_after - server_before) / max(done, 1)
    details["puts %"] = 100 * window.puts / max(done, 1)
    return Sample(done / (window.end - window.begin), details)


async def _client(
    calls: Calls,
    traffic: Traffic,
    place: int,
    numbers: itertools.count[int],
    window: Window,
) -> None:
    chooser = random.Random(_SEED * 10_000 + place)  # noqa: S311 - a mixture, no secret
    gap = traffic.clients / traffic.offered if traffic.offered else 0.0
    clock = time.perf_counter
    due = clock() + chooser.random() * gap
    owed = chooser.random()  # of a put: each client makes them at regular intervals
    while True:
        if gap:
            await asyncio.sleep(max(0.0, due - clock()))
        else:
            due = clock()
        if due > window.end:
            return
        owed += traffic.writes
        is_put = owed >= 1.0
        owed -= is_put
        await (calls.put if is_put else calls.get)(next(numbers))
        window.note(due, clock(), is_put=is_put)
        due += gap


def _waits(window: Window) -> dict[str, float]:
    """Percentiles in milliseconds."""
    waits = window.waits
    if len(waits) < 2:  # too slow for the slice: what is known is that it took longer
        longest = max(waits, default=window.end - window.begin)
        return {f"p{percent} ms": 1e3 * longest for percent in (50, 95, 99)}
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return {f"p{percent} ms": 1e3 * cuts[percent - 1] for percent in (50, 95, 99)}


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
