"""The record of switches: who, when, from where to where, and what it cost."""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from pend_storage._records import JSON
from pend_storage.dualwrite.shared import SharedMeta
from pend_storage.phases import Phase

__all__ = ["HISTORY_META", "Switch", "add_switch", "switches", "whoever_this_is"]

HISTORY_META: Final = "switches"
"""Shared value: the latest switches, oldest first."""
_KEPT: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One step from a phase to a neighbouring one."""

    at: datetime
    """When it was done, UTC."""
    by: str
    """Who asked for it."""
    before: Phase
    after: Phase
    epoch: int
    """Of the primary, afterwards."""
    accepted: tuple[str, ...] = ()
    """Codes of the blockers that somebody let pass."""
    pause: float
    """Seconds for which writes waited."""


def switches(shared: SharedMeta) -> tuple[Switch, ...]:
    """The latest switches, oldest first."""
    return msgspec.convert(shared.get(HISTORY_META) or [], tuple[Switch, ...])


def add_switch(shared: SharedMeta, switch: Switch) -> None:
    """Add one; the oldest ones are forgotten when there are very many."""
    while True:
        found = shared.get(HISTORY_META)
        entries: list[JSON] = list(found) if isinstance(found, list) else []
        entries.append(msgspec.to_builtins(switch))
        if shared.compare_and_set(HISTORY_META, found, entries[-_KEPT:]):
            return


def whoever_this_is() -> str:
    """The user, the machine and the process, for the record."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}, process {os.getpid()}"
