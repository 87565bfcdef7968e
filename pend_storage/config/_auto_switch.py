"""Member ``auto_switch`` of an environment: a truth value, a list of phases, or a table."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

__all__ = ["AutoSwitchTable", "Following", "split_auto_switch"]


class AutoSwitchTable(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Table ``auto_switch`` of the file, as it is written there."""

    allowed: list[str] | None = None
    """Phases that a server may go to by itself; None: all."""
    least_pause: Annotated[float, msgspec.Meta(ge=0, le=86_400)] | None = None
    """Seconds between two automatic changes."""


class Following(msgspec.Struct):
    """Environment with nothing but its ``auto_switch``, so that messages name its path."""

    auto_switch: AutoSwitchTable = msgspec.field(default_factory=AutoSwitchTable)


def split_auto_switch(table: Any) -> tuple[Any, dict[str, Any]]:
    """Split a list or a table ``auto_switch`` from an environment.

    Args:
        table: of the environment, as it was parsed.

    Returns:
        The environment, in which it is a truth value, and what was split from it.
    """
    written = table.get("auto_switch") if isinstance(table, dict) else None
    if isinstance(written, list):
        written = {"allowed": written}
    if not isinstance(written, dict):
        return table, {}
    return {**table, "auto_switch": True}, {"auto_switch": written}
