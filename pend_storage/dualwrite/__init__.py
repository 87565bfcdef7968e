"""Two stores kept alike under live traffic, and the four phases between them."""

from pend_storage.dualwrite.compare import Finding, hide_values, show_values
from pend_storage.dualwrite.control import SwitchReport
from pend_storage.dualwrite.election import Election, elect
from pend_storage.dualwrite.history import Switch
from pend_storage.dualwrite.lag import Lag
from pend_storage.dualwrite.readiness import CODES, Blocker, Readiness
from pend_storage.dualwrite.repair import Repair, RepairReport
from pend_storage.dualwrite.sampling import Compared
from pend_storage.dualwrite.store import DualWriteStore

__all__ = [
    "CODES",
    "Blocker",
    "Compared",
    "DualWriteStore",
    "Election",
    "Finding",
    "Lag",
    "Readiness",
    "Repair",
    "RepairReport",
    "Switch",
    "SwitchReport",
    "elect",
    "hide_values",
    "show_values",
]
