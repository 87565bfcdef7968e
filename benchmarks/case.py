"""Case: contenders that do the same work, and the ratio to aim at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any, Final, TypeAlias, cast

from benchmarks.measure import Slice
from benchmarks.workbench import Plan, Workbench

__all__ = [
    "Aim",
    "Case",
    "Contender",
    "Missing",
    "Opener",
    "Stages",
    "Traffic",
    "load",
]

Opener: TypeAlias = Callable[..., AbstractContextManager[Slice]]
"""Prepares a contender on a workbench with so many records, under the case's traffic if
it has one, and gives its slice."""
Stages: TypeAlias = Callable[[Workbench, int], Mapping[str, float]]
"""Where the time of the subject goes: seconds by stage."""

_OURS: Final = "pend_storage"


class Missing(Exception):
    """A contender that cannot run here, because its package is not installed."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do the work of a case."""

    name: str
    opener: str
    """``module:function`` below ``benchmarks.contenders``, imported when it is run."""
    note: str = ""
    """What a reader must know about it to judge it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the opener."""

    def load(self) -> Opener:
        """The function that prepares it.

        Raises:
            Missing: its package is not installed.
        """
        opener = cast("Opener", load("contenders", self.opener))
        return partial(opener, **self.options)


@dataclass(frozen=True, slots=True)
class Aim:
    """Aim of a contender, as a ratio to another one."""

    subject: str
    base: str | None
    """None: the aim is a rate, not a ratio. ``A or B``: the slower of them, in each
    round anew."""
    factor: float | None = None
    """None: worth knowing, nothing is aimed at."""
    detail: str = ""
    """What is compared instead of the rate, such as ``p95 ms``. It should be little, so
    the factor is the most that it may be, and ``A or B`` the larger of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Work of many asyncio clients of one process."""

    clients: int
    writes: float = 0.1
    """Share of the calls that put; the others get."""
    offered: float | None = None
    """Calls per second that all of them together want to make. None: each makes its next
    call as soon as the one before is answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Contenders that do the same work, measured in the same rounds."""

    name: str
    title: str
    unit: str
    """What is counted, such as ``puts``."""
    records: int
    quick_records: int
    contenders: tuple[Contender, ...]
    aims: tuple[Aim, ...]
    server: bool = True
    """Whether it needs PostgreSQL."""
    most_rounds: int = 99
    """For work that takes minutes."""
    most_quick_rounds: int = 99
    """For many contenders whose slices are long."""
    warm_up: bool = True
    """Whether a round before the first is run and thrown away."""
    memory: bool = True
    """Whether the memory of each contender is worth knowing."""
    quick: bool = True
    """Whether a quick run does it unasked."""
    traffic: Traffic | None = None
    """Who calls, where it is not one client after the other."""
    rivals: bool = True
    """Whether a contender that is slower than another one has lost anything."""
    series: str = ""
    """Cases of the same series differ in the number of clients, and share a chart."""
    stages: str | None = None
    """``module:function`` that takes the work apart."""
    text: str = ""
    """What the page says about the case."""

    def size(self, *, quick: bool) -> int:
        """Number of records."""
        return self.quick_records if quick else self.records

    def rounds(self, plan: Plan) -> int:
        """Number of rounds of every contender."""
        most = self.most_quick_rounds if plan.quick else plan.rounds
        return min(plan.rounds, self.most_rounds, most)

    def opened(
        self, contender: Contender, bench: Workbench
    ) -> AbstractContextManager[Slice]:
        """Prepare one of the contenders.

        Raises:
            Missing: its package is not installed.
        """
        opener = contender.load()
        records = self.size(quick=bench.plan.quick)
        if self.traffic is None:
            return opener(bench, records)
        return opener(bench, records, self.traffic)

    def load_stages(self) -> Stages | None:
        """The function that takes the work apart, if there is one."""
        return (
            None
            if self.stages is None
            else cast("Stages", load("contenders", self.stages))
        )


def load(package: str, place: str) -> Any:
    """Resolve ``module:name`` in one of the packages here.

    Raises:
        Missing: a package of others that it needs is not installed.
    """
    module, _, name = place.partition(":")
    try:
        return getattr(import_module(f"benchmarks.{package}.{module}"), name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.partition(".")[0] in {"benchmarks", _OURS}:
            raise
        raise Missing(f"the package {missing} is not installed") from error
