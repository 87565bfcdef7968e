"""Runs cases: opens their contenders, measures them in turn, and their memory apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeAlias

from benchmarks.case import Case, Contender, Missing
from benchmarks.facts import conditions
from benchmarks.measure import Sample, Slice, alternate, spread_of
from benchmarks.memory import Memory, measure_memory
from benchmarks.results import CaseResult, Measured, TrialResult, compare
from benchmarks.trial import Trial
from benchmarks.workbench import Workbench

__all__ = ["Tell", "run_case", "run_trial"]

Tell: TypeAlias = Callable[[str], None]
"""Shows a line of progress."""


def run_case(bench: Workbench, case: Case, *, tell: Tell, memory: bool) -> CaseResult:
    """Measure a case.

    Args:
        bench: where.
        case: what.
        tell: gets a line from time to time.
        memory: also measure the peak memory of each contender.
    """
    records = case.size(quick=bench.plan.quick)
    rounds = case.rounds(bench.plan)
    before = conditions(bench)
    samples, absent = _samples(bench, case, rounds, tell)
    present = [each for each in case.contenders if each.name in samples]
    used = _memory(bench, case, present, tell) if memory and case.memory else {}
    stages = case.load_stages()
    measured = tuple(
        _measured(each, samples[each.name], used.get(each.name)) for each in present
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
        clients=case.traffic.clients if case.traffic else None,
        rivals=case.rivals,
        series=case.series,
    )


def _measured(
    contender: Contender, samples: Sequence[Sample], used: Memory | None
) -> Measured:
    rates = tuple(sample.rate for sample in samples)
    known = set.intersection(*(set(sample.details) for sample in samples))
    return Measured(
        name=contender.name,
        note=contender.note,
        rates=rates,
        spread=spread_of(rates),
        start_mib=used.start if used else None,
        peak_mib=used.peak if used else None,
        details={
            name: tuple(sample.details[name] for sample in samples)
            for name in samples[0].details
            if name in known
        },
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


def _samples(
    bench: Workbench, case: Case, rounds: int, tell: Tell
) -> tuple[dict[str, list[Sample]], dict[str, str]]:
    absent: dict[str, str] = {}
    slices: dict[str, Slice] = {}
    with ExitStack() as opened:
        for contender in case.contenders:
            tell(f"{case.name}: preparing {contender.name}")
            try:
                manager = case.opened(contender, bench)
                slices[contender.name] = opened.enter_context(manager)
            except Missing as error:
                absent[contender.name] = str(error)
        told = f"{case.name}: round {{}} of {rounds}"
        found = alternate(
            slices,
            rounds,
            warm_up=case.warm_up,
            told=lambda n: tell(told.format(n)),
        )
    samples = {
        name: [each if isinstance(each, Sample) else Sample(each) for each in all_of_it]
        for name, all_of_it in found.items()
    }
    return samples, absent


def _memory(
    bench: Workbench, case: Case, contenders: Sequence[Contender], tell: Tell
) -> dict[str, Memory]:
    used = {}
    for contender in contenders:
        tell(f"{case.name}: memory of {contender.name}")
        used[contender.name] = measure_memory(bench, case, contender)
    return used
