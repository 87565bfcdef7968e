"""Runs cases: opens their contenders, measures them in turn, and their memory apart."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeAlias

from benchmarks.case import Case, Missing
from benchmarks.facts import conditions
from benchmarks.measure import Slice, alternate, spread_of
from benchmarks.memory import Memory, measure_memory
from benchmarks.results import CaseResult, Measured, TrialResult, compare
from benchmarks.trial import Trial
from benchmarks.workbench import Workbench

__all__ = ["Tell", "run_case", "run_trial"]

Tell: TypeAlias = Callable[[str], None]
"""Shows a line to whoever waits."""


def run_case(bench: Workbench, case: Case, *, tell: Tell, memory: bool) -> CaseResult:
    """Measure a case.

    Args:
        bench: where.
        case: what.
        tell: gets a line from time to time.
        memory: also measure the peak memory of each contender.
    """
    records = case.size(quick=bench.plan.quick)
    rounds = min(bench.plan.rounds, case.most_rounds)
    before = conditions(bench)
    rates, absent = _rates(bench, case, rounds, tell)
    used = _memory(bench, case, rates, tell) if memory else {}
    stages = case.load_stages()
    measured = tuple(
        Measured(
            name=each.name,
            note=each.note,
            rates=tuple(rates[each.name]),
            spread=spread_of(rates[each.name]),
            start_mib=used[each.name].start if each.name in used else None,
            peak_mib=used[each.name].peak if each.name in used else None,
        )
        for each in case.contenders
        if each.name in rates
    )
    return CaseResult(
        name=case.name,
        title=case.title,
        unit=case.unit,
        text=case.text,
        records=records,
        rounds=rounds,
        conditions=before,
        measured=measured,
        comparisons=tuple(compare(case.aims, measured)),
        stages=dict(stages(bench, records)) if stages else {},
        absent=absent,
    )


def run_trial(bench: Workbench, trial: Trial, *, tell: Tell) -> TrialResult:
    """Run a trial, once.

    Args:
        bench: where.
        trial: what.
        tell: gets a line from time to time.

    Raises:
        Missing: the package of a peer is not installed.
    """
    before = conditions(bench)
    run = trial.load()
    started = time.perf_counter()
    figures = run(bench, lambda line: tell(f"{trial.name}: {line}"))
    return TrialResult(
        name=trial.name,
        title=trial.title,
        text=trial.text,
        conditions=before,
        seconds=time.perf_counter() - started,
        figures=tuple(figures),
    )


def _rates(
    bench: Workbench, case: Case, rounds: int, tell: Tell
) -> tuple[dict[str, list[float]], dict[str, str]]:
    absent: dict[str, str] = {}
    slices: dict[str, Slice] = {}
    with ExitStack() as opened:
        for contender in case.contenders:
            tell(f"{case.name}: preparing {contender.name}")
            try:
                opener = contender.load()
            except Missing as error:
                absent[contender.name] = str(error)
                continue
            manager = opener(bench, case.size(quick=bench.plan.quick))
            slices[contender.name] = opened.enter_context(manager)
        told = f"{case.name}: round {{}} of {rounds}"
        rates = alternate(
            slices,
            rounds,
            warm_up=case.warm_up,
            told=lambda n: tell(told.format(n)),
        )
    return rates, absent


def _memory(
    bench: Workbench, case: Case, rates: dict[str, list[float]], tell: Tell
) -> dict[str, Memory]:
    used = {}
    for contender in case.contenders:
        if contender.name in rates:
            tell(f"{case.name}: memory of {contender.name}")
            used[contender.name] = measure_memory(bench, case, contender)
    return used
