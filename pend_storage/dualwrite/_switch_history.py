"""History of switches: actor, time, phases and write pause of each."""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from pend_storage._model.records import JSON
from pend_storage.dualwrite._pair_metadata import PairMetadata
from pend_storage.phases import Phase

__all__ = [
    "HISTORY_META",
    "Switch",
    "current_actor",
    "record_switch",
    "recorded_switches",
]

HISTORY_META: Final = "switches"
"""Metadata of the pair: the latest switches, oldest first."""
_RETAINED: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """Step from a phase to a neighbouring one."""

    at: datetime
    """When it was done, UTC."""
    by: str
    """Actor: user, machine and process, or a name that the caller gave."""
    before: Phase
    after: Phase
    epoch: int
    """Of the primary, afterwards."""
    accepted: tuple[str, ...] = ()
    """Codes of the blockers that were accepted."""
    pause: float
    """Seconds for which writes waited."""


def recorded_switches(metadata: PairMetadata) -> tuple[Switch, ...]:
    """Return the latest switches, oldest first."""
    return msgspec.convert(metadata.get(HISTORY_META) or [], tuple[Switch, ...])


def record_switch(metadata: PairMetadata, switch: Switch) -> None:
    """Append a switch; the oldest ones are dropped when there are very many."""
    while True:
        found = metadata.get(HISTORY_META)
        entries: list[JSON] = list(found) if isinstance(found, list) else []
        entries.append(msgspec.to_builtins(switch))
        if metadata.compare_and_set(HISTORY_META, found, entries[-_RETAINED:]):
            return


def current_actor() -> str:
    """Return the user, the machine and the process, for the history."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}, process {os.getpid()}"
