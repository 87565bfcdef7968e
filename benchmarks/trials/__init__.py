"""Every trial, in the order in which they are run and shown."""

from __future__ import annotations

from typing import Final

from benchmarks.trial import Trial
from benchmarks.trials import dual_writing, memory

__all__ = ["TRIALS"]

TRIALS: Final[tuple[Trial, ...]] = (*dual_writing.TRIALS, *memory.TRIALS)
