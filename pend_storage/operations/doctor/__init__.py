"""Looking at everything that could go wrong, before it does.

Changes nothing, but that a switch is finished which somebody left half done.
"""

from pend_storage.operations.doctor.findings import Finding, State
from pend_storage.operations.doctor.run import Diagnosis, examine

__all__ = ["Diagnosis", "Finding", "State", "examine"]
