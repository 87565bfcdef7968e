"""The phase flag: where it may be written, and what notices that it has changed.

The flag is what is *wanted*; the roles of the two stores are what *is*. A place for the
flag is a :class:`FlagSource`; :func:`flag_source` gives the one that the settings of an
environment name. :class:`FlagWatcher` notices changes, and :class:`AutoSwitch` acts on
them. :class:`FlagMemory` is what a pair of stores remembers of the versions it followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pend_storage.flags._chained import (
    ChainedFlag,
    FlagSettings,
    RedisPlace,
    flag_source,
)
from pend_storage.flags.auto import AutoSwitch, Switchable
from pend_storage.flags.file import FileFlag
from pend_storage.flags.fixed import EnvironmentFlag, FixedFlag
from pend_storage.flags.memory import FlagMemory, VersionedFlag
from pend_storage.flags.source import DesiredPhase, FlagSource, PairValues
from pend_storage.flags.watcher import FlagWatcher, OnChange

if TYPE_CHECKING:
    from pend_storage.flags.redis import RedisFlag

__all__ = [
    "AutoSwitch",
    "EnvironmentFlag",
    "FileFlag",
    "ChainedFlag",
    "FixedFlag",
    "FlagMemory",
    "FlagSettings",
    "FlagSource",
    "FlagWatcher",
    "OnChange",
    "PairValues",
    "RedisFlag",
    "RedisPlace",
    "Switchable",
    "VersionedFlag",
    "DesiredPhase",
    "flag_source",
]


def __getattr__(name: str) -> Any:
    if name != "RedisFlag":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pend_storage.flags.redis import (  # noqa: PLC0415 - an optional package
        RedisFlag,
    )

    return RedisFlag
