"""Repair of an environment: makes the secondary equal to the live primary."""

from __future__ import annotations

from dataclasses import dataclass

from pend_storage.config import Settings
from pend_storage.dualwrite import Repair
from pend_storage.dualwrite._roles import Side
from pend_storage.factory import open_pair
from pend_storage.operations.jobs import acted

__all__ = ["EnvironmentRepair", "repair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentRepair:
    """Report of a repair."""

    primary: Side | None
    """Side whose records count; None: a switch was under way."""
    dry_run: bool
    found: tuple[Repair, ...]
    """Records that differed: what was done about each, or would be."""

    @property
    def refused(self) -> tuple[Repair, ...]:
        """Those that cannot be repaired: they are ahead of all that the primary knows."""
        return tuple(item for item in self.found if item.action == "refused")

    @property
    def count(self) -> int:
        """Number of the records that were repaired, or would be."""
        return len(self.found) - len(self.refused)


def repair(
    settings: Settings,
    *,
    dry_run: bool = False,
    by: str | None = None,
    reason: str | None = None,
) -> EnvironmentRepair:
    """Compare every record, and make the secondary equal to the live primary.

    Args:
        settings: of the environment.
        dry_run: only report what would be done.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; the job keeps it.

    Raises:
        ConfigError: there is no secondary.
        StoreUnavailable: a store cannot be reached.
    """
    with acted(by, reason), open_pair(settings) as pair:
        side = pair.roles().primary
        result = pair.repair(dry_run=dry_run)
    found = tuple(item for item in result.repairs if item.action != "none")
    return EnvironmentRepair(primary=side, dry_run=dry_run, found=found)
