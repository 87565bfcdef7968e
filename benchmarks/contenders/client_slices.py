"""Slices of many asyncio clients: a loop of its own for each slice.

A contender is opened in the loop that uses it, and closed at the end of the slice, so that
none of the others has idle connections and tasks beside it. Neither is timed.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias

from benchmarks.case import Missing, Traffic
from benchmarks.clients import Calls, drive
from benchmarks.measure import Sample, Slice
from benchmarks.processors import server_cpu
from benchmarks.workbench import Workbench

__all__ = ["POOL", "Opened", "client_slice"]

Opened: TypeAlias = Callable[[], AbstractAsyncContextManager[Calls]]
"""Opens a contender in the loop that runs."""

POOL: Final = 20
"""Connections of everybody's pool, and threads of those that need threads."""
_LONGER: Final = 2
"""A slice of a thousand clients needs to be longer than one of a single client."""


def client_slice(
    bench: Workbench, url: str, opened: Opened, traffic: Traffic, *, uvloop: bool
) -> Slice:
    """A slice in which all clients call.

    Args:
        bench: tells how long a slice is.
        url: of the database, to see what its server does.
        opened: the contender.
        traffic: how many clients, and what they do.
        uvloop: run on uvloop rather than on asyncio's own loop.

    Raises:
        Missing: uvloop is not installed.
    """
    factory = _uvloop() if uvloop else None
    server = server_cpu(url)
    seconds = bench.plan.seconds * _LONGER
    turn = 0

    async def session(first: int) -> Sample:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(POOL))
        async with opened() as calls:
            return await drive(calls, traffic, seconds, server, first)

    def run() -> Sample:
        nonlocal turn
        turn += 1
        # The records to be written are the benchmark's own heap, as large as a server's.
        # Searching it for garbage, over and over, is not part of the measured work.
        gc.collect()
        gc.freeze()
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(session(turn * 1_000_003))

    return run


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ModuleNotFoundError as error:
        raise Missing("the package uvloop is not installed") from error
    return uvloop.new_event_loop
