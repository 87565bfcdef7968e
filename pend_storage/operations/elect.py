"""The last way out: one of the stores takes over, whatever the other one holds."""

from __future__ import annotations

from pend_storage.config import Settings
from pend_storage.dualwrite import ForcedPromotion, force_promotion
from pend_storage.dualwrite.roles import Side
from pend_storage.factory import open_json, open_postgres

__all__ = ["take_over"]


def take_over(settings: Settings, side: Side) -> ForcedPromotion:
    """Let one store take over; every server must have ended before.

    Args:
        settings: of the environment; both sides must be configured.
        side: which store holds the truth from now on.

    Raises:
        ConfigError: a side is not configured.
        StoreUnavailable: the store that is to take over cannot be reached.
        Conflict: roles are changing at this moment: a server still runs.
    """
    with open_json(settings) as json, open_postgres(settings) as postgres:
        return force_promotion(json, postgres, side)
