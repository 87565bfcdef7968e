"""Test kit for stores: contract, state machine, faults, crashes, real servers.

.. code-block:: python

    from pend_storage.testing import StoreContract, machine_for

- :class:`StoreContract`: the contract of a store, as tests; subclass it.
- :class:`StoreMachine`, :func:`machine_for`, :func:`run_machine`: a Hypothesis state
  machine that drives a store and a ``MemoryStore`` together.
- :mod:`~pend_storage.testing.strategies`: records, conditions and queries of a schema.
- :class:`FaultyStore`, :class:`SlowStore`: wrappers that fail, or wait, on demand.
- :class:`Proxy`: a line to a server that can be cut, slowed down or held up.
- :mod:`~pend_storage.testing.hostile`: servers that are exchanged behind their address
  while a pair of stores works with them, and a check of the stores at the end.
- :mod:`~pend_storage.testing.interrupts`: Ctrl-C at any instant, or at each line.
- :class:`Recorder`: the states of a directory that a power failure may leave.
- :class:`Child`, :func:`run_until_crash`, :func:`kill_at_random`: processes that crash.
- :mod:`~pend_storage.testing.domain`: a schema to test with.
- :mod:`~pend_storage.testing.servers`, :mod:`~pend_storage.testing.fixtures`: real
  PostgreSQL and Redis servers.
- :mod:`~pend_storage.testing.plugin`: a pytest plugin, loaded automatically, that makes
  failed assertions of this package show their values.

Importing this package imports none of it, neither pytest nor hypothesis.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pend_storage.testing.contract import StoreContract
    from pend_storage.testing.crash import (
        Child,
        Outcome,
        Report,
        kill_at_random,
        run_until_crash,
    )
    from pend_storage.testing.faults import FaultyStore, SlowStore
    from pend_storage.testing.machine import StoreMachine, machine_for, run_machine
    from pend_storage.testing.powercut import Cut, Recorder
    from pend_storage.testing.proxy import Proxy

__all__ = [
    "Child",
    "Cut",
    "FaultyStore",
    "Outcome",
    "Proxy",
    "Recorder",
    "Report",
    "SlowStore",
    "StoreContract",
    "StoreMachine",
    "kill_at_random",
    "machine_for",
    "run_machine",
    "run_until_crash",
]

_HOMES: Final = {
    "Child": "crash",
    "Cut": "powercut",
    "FaultyStore": "faults",
    "Outcome": "crash",
    "Proxy": "proxy",
    "Recorder": "powercut",
    "Report": "crash",
    "SlowStore": "faults",
    "StoreContract": "contract",
    "StoreMachine": "machine",
    "kill_at_random": "crash",
    "machine_for": "machine",
    "run_machine": "machine",
    "run_until_crash": "crash",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
