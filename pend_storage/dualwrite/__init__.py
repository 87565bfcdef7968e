"""Dual writes to two stores under live traffic, and the four phases between them."""

from pend_storage.dualwrite._compared_totals import ComparedTotals
from pend_storage.dualwrite._divergence_acceptance import Acceptance
from pend_storage.dualwrite._divergence_check import Finding, hide_values, show_values
from pend_storage.dualwrite._forced_promotion import ForcedPromotion, force_promotion
from pend_storage.dualwrite._lag import Lag
from pend_storage.dualwrite._maintenance import Backfill, Validate
from pend_storage.dualwrite._passive_pair import PassivePair
from pend_storage.dualwrite._phase_controller import SwitchReport
from pend_storage.dualwrite._readiness import CODES, Blocker, Readiness
from pend_storage.dualwrite._repair import Repair, RepairReport
from pend_storage.dualwrite._roles import RolePair
from pend_storage.dualwrite._shadow_reads import Compared
from pend_storage.dualwrite._store import DualWriteStore
from pend_storage.dualwrite._switch_history import Switch

__all__ = [
    "CODES",
    "Acceptance",
    "Backfill",
    "Blocker",
    "Compared",
    "ComparedTotals",
    "DualWriteStore",
    "Finding",
    "ForcedPromotion",
    "Lag",
    "PassivePair",
    "Readiness",
    "Repair",
    "RepairReport",
    "RolePair",
    "Switch",
    "SwitchReport",
    "Validate",
    "force_promotion",
    "hide_values",
    "show_values",
]
