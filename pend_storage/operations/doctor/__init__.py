"""Diagnosis of an environment: checks for every known cause of a failure.

The checks change nothing, except that a switch whose process died is finished or undone.
"""

from pend_storage.operations.doctor._findings import Finding, State
from pend_storage.operations.doctor._run import Diagnosis, examine

__all__ = ["Diagnosis", "Finding", "State", "examine"]
