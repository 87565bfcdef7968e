"""Results of a run, as written to ``results.json``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.case import Aim
from benchmarks.measure import Spread, paired, spread_of

__all__ = [
    "FORMAT",
    "CaseResult",
    "Comparison",
    "Conditions",
    "Facts",
    "Figure",
    "Measured",
    "Results",
    "TrialResult",
    "compare",
    "merge",
    "read_results",
    "write_results",
]

FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The machine and the programs; nothing that identifies the owner."""

    processors: int
    processor: str
    """What the processor calls itself."""
    memory_gib: int
    system: str
    file_system: str
    python: str
    postgresql: str
    packages: dict[str, str]
    garbage_collector: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """State of the machine just before a case was measured."""

    load: float
    """Processes that wanted to run, on average over a minute, this one included."""
    sync_microseconds: float
    """Median time to append 512 bytes to a file and sync it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The rates of one contender, one for each round."""

    name: str
    note: str
    rates: tuple[float, ...]
    spread: Spread
    start_mib: float | None
    """Resident memory of a process of its own before anything was prepared."""
    peak_mib: float | None
    """The most it had while preparing and running one slice."""
    details: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """What else each round found, such as ``p95 ms``; less is better."""

    def values(self, detail: str) -> tuple[float, ...] | None:
        """The rates, or one of the details; None where it was not measured."""
        return self.details.get(detail) if detail else self.rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One contender against another, or against a rate that is aimed at."""

    subject: str
    base: str | None
    aim: float | None
    spread: Spread
    detail: str = ""
    """What is compared instead of the rate; less of it is better."""

    @property
    def met(self) -> bool | None:
        """Return True if the median reaches the aim; None without an aim."""
        if self.aim is None:
            return None
        median = self.spread.median
        return median <= self.aim if self.detail else median >= self.aim

    @property
    def lost(self) -> bool:
        """Return True if the base does better."""
        median = self.spread.median
        return self.base is not None and (median > 1 if self.detail else median < 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """One case."""

    name: str
    title: str
    unit: str
    text: str
    records: int
    rounds: int
    conditions: Conditions
    measured: tuple[Measured, ...]
    comparisons: tuple[Comparison, ...]
    stages: dict[str, float]
    """Seconds by stage of the work of the first contender."""
    absent: dict[str, str]
    """Contenders that could not run here, and why."""
    clients: int | None = None
    """How many called at the same time, where that is what the case is about."""
    rivals: bool = True
    """Whether a contender that is slower than another one has lost anything."""
    series: str = ""
    """Cases that differ in the number of clients only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number that a trial found: the smaller the better."""

    what: str
    value: float
    unit: str = ""
    """Such as ``ms``; none for a count."""
    aim: float | None = None
    """What it should not exceed; None: worth knowing, nothing is aimed at."""
    q1: float | None = None
    q3: float | None = None
    """Quartiles, where the value is a median."""
    note: str = ""
    """What a reader must know to judge it."""

    @property
    def met(self) -> bool | None:
        """Return True if it does not exceed the aim."""
        return None if self.aim is None else self.value <= self.aim


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """Result of one trial."""

    name: str
    title: str
    text: str
    conditions: Conditions
    seconds: float
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A whole run."""

    format: int
    quick: bool
    facts: Facts
    cases: tuple[CaseResult, ...]
    trials: tuple[TrialResult, ...] = ()


def compare(aims: Iterable[Aim], measured: Iterable[Measured]) -> list[Comparison]:
    """The comparisons whose contenders have both run."""
    contenders = {each.name: each for each in measured}
    made = []
    for aim in aims:
        bases = [] if aim.base is None else aim.base.split(" or ")
        values = [
            contenders[name].values(aim.detail) if name in contenders else None
            for name in (aim.subject, *bases)
        ]
        known = [each for each in values if each is not None]
        if len(known) == len(values):
            spread = _spread(known[0], known[1:], less=bool(aim.detail))
            made.append(
                Comparison(
                    subject=aim.subject,
                    base=aim.base,
                    aim=aim.factor,
                    spread=spread,
                    detail=aim.detail,
                )
            )
    return made


def _spread(
    subject: Sequence[float], bases: Sequence[Sequence[float]], *, less: bool
) -> Spread:
    """Of a value, or of its ratio to the worst of the bases in each round."""
    best, worst = (min, max) if less else (max, min)
    if not bases:
        return spread_of(subject, best)
    return paired(subject, [worst(each) for each in zip(*bases, strict=True)], best)


def merge(older: Results, newer: Results, order: Sequence[str]) -> Results:
    """A newer run, with what it left out taken from an older one of the same kind.

    An older run on another machine, with other packages, or with other amounts of data
    is of another kind, and nothing of it is kept. It may not know all packages: what was
    not there yet it did not use.

    Args:
        older: the older one.
        newer: the newer one.
        order: names of all cases and trials, in the order in which they are shown.
    """

    def kind(results: Results) -> object:
        return (results.quick, replace(results.facts, postgresql="", packages={}))

    servers = {older.facts.postgresql, newer.facts.postgresql} - {""}
    known = older.facts.packages.items() <= newer.facts.packages.items()
    if kind(older) != kind(newer) or len(servers) > 1 or not known:
        return newer
    cases = {case.name: case for case in (*older.cases, *newer.cases)}
    trials = {trial.name: trial for trial in (*older.trials, *newer.trials)}
    return replace(
        newer,
        facts=_either(older.facts, newer.facts),
        cases=tuple(cases[name] for name in order if name in cases),
        trials=tuple(trials[name] for name in order if name in trials),
    )


def _either(older: Facts, newer: Facts) -> Facts:
    """The newer facts; a run of cases without a server does not know the server's."""
    return replace(newer, postgresql=newer.postgresql or older.postgresql)


def write_results(path: Path, results: Results) -> None:
    """Write a run, for people to read as well."""
    text = msgspec.json.format(msgspec.json.encode(_rounded(results)), indent=1)
    path.write_bytes(text + b"\n")


def read_results(path: Path) -> Results:
    """A run that was written before.

    Raises:
        msgspec.ValidationError: the file is not one.
    """
    return msgspec.json.decode(path.read_bytes(), type=Results)


def _rounded(results: Results) -> object:
    """Floats with five digits: more would only look exact."""

    def short(value: object) -> object:
        if isinstance(value, float):
            return float(f"{value:.5g}")
        if isinstance(value, dict):
            return {name: short(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [short(item) for item in value]
        return value

    return short(msgspec.to_builtins(results))
