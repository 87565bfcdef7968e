"""Looking at everything that could go wrong, before it does. Changes nothing."""

from pend_storage.operations.doctor.findings import Finding, State
from pend_storage.operations.doctor.run import Diagnosis, examine

__all__ = ["Diagnosis", "Finding", "State", "examine"]
