"""Trial: a schedule that is run once, and its figures.

A case compares rates of the same work. A trial answers other questions: how many records
are left different, how long writes pause, what is added to a call. Its figures are better
the smaller they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from benchmarks.case import load
from benchmarks.results import Figure
from benchmarks.workbench import Workbench

__all__ = ["Run", "Trial"]

Run: TypeAlias = Callable[[Workbench, Callable[[str], None]], Sequence[Figure]]
"""Gets a workbench and a progress callback, and returns the figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A schedule, and what the page says about it."""

    name: str
    title: str
    text: str
    run: str
    """``module:function`` below ``benchmarks.schedules``, imported when it is run."""
    server: bool = True
    """Whether it needs PostgreSQL."""
    quick: bool = True
    """Whether a quick run does it unasked."""
    packages: tuple[str, ...] = field(default=())
    """Peers that it is about; named on the page with their versions."""

    def load(self) -> Run:
        """The function that runs it.

        Raises:
            Missing: the package of a peer is not installed.
        """
        return cast("Run", load("schedules", self.run))
