"""The page of the documentation: hand-written, with the numbers of a run put in.

Numbers stand between ``<!-- measured NAME -->`` and ``<!-- end -->``. NAME is ``facts``,
``summary``, ``missed``, ``trials``, or that of a case, a trial or a series of cases.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from benchmarks.measure import Spread, spread_of
from benchmarks.results import (
    CaseResult,
    Comparison,
    Facts,
    Figure,
    Measured,
    Results,
    TrialResult,
)

__all__ = ["TEMPLATE", "as_text", "in_series", "rendered", "write"]

TEMPLATE: Final = Path(__file__).parent.parent / "docs/explanation/benchmarks.md"
T = TypeVar("T")
_BLOCK: Final = re.compile(
    r"<!-- measured (?P<name>\S+) -->\n.*?<!-- end -->", re.DOTALL
)
_ABSENT: Final = "Not measured in this run."
_VERDICTS: Final = {True: "met", False: "missed", None: ""}


def write(path: Path, results: Results) -> None:
    """Write the page with the numbers of a run."""
    path.write_text(rendered(TEMPLATE.read_text(), results))


def rendered(text: str, results: Results) -> str:
    """A page with the numbers of a run between its marks."""
    blocks = {
        "facts": _facts(results),
        "summary": _summary(results.cases),
        "missed": _missed(results),
        "trials": _trials(results.trials),
        **{case.name: _case(case) for case in results.cases},
        **{trial.name: _trial(trial) for trial in results.trials},
        **{name: _series(name, cases) for name, cases in in_series(results).items()},
    }

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        body = blocks.get(name, _ABSENT)
        return f"<!-- measured {name} -->\n{body}\n<!-- end -->"

    return _BLOCK.sub(replace, text)


def as_text(results: Results) -> str:
    """The comparisons of a run, for a terminal."""
    lines = []
    for case in results.cases:
        lines.append(f"\n{case.title} ({_size(case)})")
        lines += [_measured_line(each, case) for each in case.measured]
        lines += [f"  {_line(each, case)}" for each in case.comparisons]
        lines += [f"  {name}: {seconds:.2f} s" for name, seconds in case.stages.items()]
        lines += [f"  without {name}: {why}" for name, why in case.absent.items()]
    for trial in results.trials:
        lines.append(f"\n{trial.title} ({trial.seconds:,.0f} s)")
        lines += [f"  {_figure_line(each)}" for each in trial.figures]
    return "\n".join(lines)


def _measured_line(each: Measured, case: CaseResult) -> str:
    details = (
        f"  {name} {_number(value)}" for name, value in _medians(each.details).items()
    )
    return (
        f"  {each.name:<30} {_number(each.spread.median):>12} {case.unit}/s"
        f"  best {_number(each.spread.best):>12}{''.join(details)}"
        + ("" if each.peak_mib is None else f"  peak {each.peak_mib:,.0f} MiB")
    )


def _line(each: Comparison, case: CaseResult) -> str:
    aim = "" if each.aim is None else f", aim {_aim(each)}"
    verdict = {True: " met", False: " MISSED", None: ""}[each.met]
    value, spread = _multiple(each.spread.median, each), _range(each.spread, each)
    return f"{_what(each, case)}: {value} [{spread}]{aim}{verdict}"


def _figure_line(each: Figure) -> str:
    what, value, spread, aim, verdict, note = _figure(each)
    parts = [
        f"{what}: {value.strip('*')}",
        f"[{spread}]" if spread else "",
        f"aim {aim} {'met' if each.met else 'MISSED'}" if verdict else "",
        f"({note})" if note else "",
    ]
    return " ".join(filter(None, parts))


def _facts(results: Results) -> str:
    facts: Facts = results.facts
    rows = [
        ("machine", f"{facts.processors} processors ({facts.processor})"),
        ("memory", f"{facts.memory_gib} GiB"),
        ("file system", facts.file_system),
        ("Python", f"{facts.python}, on {facts.system}"),
        ("PostgreSQL", facts.postgresql or "none"),
        ("packages", ", ".join(f"{n} {v}" for n, v in facts.packages.items())),
        ("garbage collector", facts.garbage_collector),
    ]
    return _table(("", ""), rows)


def _summary(cases: Iterable[CaseResult]) -> str:
    rows = [
        (
            f"[{case.title}](#{case.name})" if first else "",
            _what(each, case),
            _aim(each),
            f"**{_multiple(each.spread.median, each)}**",
            _range(each.spread, each),
            _verdict(each),
        )
        for case in cases
        for first, each in _with_first(e for e in case.comparisons if e.aim is not None)
    ]
    head = ("", "compared", "aim", "measured", "quartiles", "")
    return _table(head, rows)


def _missed(results: Results) -> str:
    rows = [
        (case.title, _what(each, case), _aim(each), _multiple(each.spread.median, each))
        for case in results.cases
        for each in case.comparisons
        if each.met is False or (case.rivals and each.lost)
    ]
    rows += [
        (trial.title, what, f"at most {aim}", value)
        for trial in results.trials
        for what, value, _, aim, verdict, _ in map(_figure, trial.figures)
        if verdict == _VERDICTS[False]
    ]
    if not rows:
        return "In this run, nowhere."
    return _table(("", "compared", "aim", "measured"), rows)


def _case(case: CaseResult) -> str:
    found = case.conditions
    how = (
        f"{_size(case)}. Just before, the load was "
        f"{found.load:.1f}, and a synced append took {found.sync_microseconds:,.0f} µs."
    )
    parts = [
        case.text,
        how,
        f"![{case.title}: rates](benchmarks/{case.name}.svg)",
        _rates(case),
        *_details(case),
        _table(
            ("compared", "aim", "measured", "quartiles", "best to best", ""),
            [
                (
                    _what(each, case),
                    _aim(each),
                    f"**{_multiple(each.spread.median, each)}**",
                    _range(each.spread, each),
                    _multiple(each.spread.best, each),
                    _verdict(each),
                )
                for each in case.comparisons
            ],
        ),
    ]
    if case.stages:
        parts.append(_stages(case.stages))
    if case.absent:
        parts.append(f"Left out: {', '.join(case.absent)}.")
    return "\n\n".join(parts)


def _trials(trials: Iterable[TrialResult]) -> str:
    """All that is aimed at, as a table."""
    rows = [
        (f"[{trial.title}](#{trial.name})" if first else "", *_figure(each)[:-1])
        for trial in trials
        for first, each in _with_first(f for f in trial.figures if f.aim is not None)
    ]
    return _table(("", "", "found", "quartiles", "at most", ""), rows)


def _trial(trial: TrialResult) -> str:
    found = trial.conditions
    how = (
        f"It took {trial.seconds:,.0f} s. Just before, the load was {found.load:.1f}, "
        f"and a synced append took {found.sync_microseconds:,.0f} µs."
    )
    head = ("", "found", "quartiles", "aim: at most", "", "")
    rows = [_figure(each) for each in trial.figures]
    return "\n\n".join([trial.text, how, _table(head, rows)])


def _figure(each: Figure) -> tuple[str, ...]:
    """What, value, quartiles, aim, verdict, note."""

    def shown(value: float | None) -> str:
        if value is None:
            return ""
        whole = value.is_integer() and not each.unit
        return f"{value:,.0f}" if whole else f"{_number(value)} {each.unit}".rstrip()

    spread = "" if each.q1 is None else f"{shown(each.q1)} - {shown(each.q3)}"
    aim, verdict = shown(each.aim), _VERDICTS[each.met]
    return (each.what, f"**{shown(each.value)}**", spread, aim, verdict, each.note)


def _size(case: CaseResult) -> str:
    clients = "" if case.clients is None else f"{_clients(case.clients)}, "
    return f"{case.records:,} records, {clients}{case.rounds} rounds"


def _clients(count: int) -> str:
    return f"{count:,} client{'' if count == 1 else 's'}"


def _rates(case: CaseResult) -> str:
    """The memory is left out where nobody asked for it."""
    has_memory = any(each.peak_mib is not None for each in case.measured)
    memory = ("peak memory",) if has_memory else ()
    head = ("", f"{case.unit}/s", "quartiles", "best", *memory, "")
    return _table(head, [_measured(each, memory=has_memory) for each in case.measured])


def _measured(each: Measured, *, memory: bool) -> tuple[str, ...]:
    peak = "" if each.peak_mib is None else f"{each.peak_mib:,.0f} MiB"
    return (
        each.name,
        _number(each.spread.median),
        f"{_number(each.spread.q1)} - {_number(each.spread.q3)}",
        _number(each.spread.best),
        *([peak] if memory else []),
        each.note,
    )


def _details(case: CaseResult) -> Iterator[str]:
    """What was looked at beside the rate, as medians over the rounds."""
    names = list(dict.fromkeys(n for each in case.measured for n in each.details))
    if names:
        found = [(each.name, _medians(each.details)) for each in case.measured]
        yield _table(
            ("", *names),
            [
                (name, *(_number(each[n]) if n in each else "" for n in names))
                for name, each in found
            ],
        )


def _medians(details: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: spread_of(values).median for name, values in details.items()}


def in_series(results: Results) -> dict[str, list[CaseResult]]:
    """The cases of each series, those with few clients first."""
    found: dict[str, list[CaseResult]] = {}
    for case in sorted(results.cases, key=lambda case: case.clients or 0):
        if case.series:
            found.setdefault(case.series, []).append(case)
    return found


def _series(name: str, cases: Sequence[CaseResult]) -> str:
    """Who gets how much done, by the number of clients."""
    rates: dict[str, dict[int, float]] = {}
    for case in cases:
        for each in case.measured:
            rates.setdefault(each.name, {})[case.clients or 0] = each.spread.median
    counts = [case.clients or 0 for case in cases]
    head = (f"{cases[0].unit}/s", *map(_clients, counts))
    rows = [
        (who, *(_number(found[n]) if n in found else "" for n in counts))
        for who, found in rates.items()
        if len(found) == len(counts)
    ]
    chart = f"![Rates and waits by the number of clients](benchmarks/{name}.svg)"
    return f"{chart}\n\n{_table(head, rows)}"


def _stages(stages: dict[str, float]) -> str:
    total = sum(stages.values())
    rows = [
        (name, f"{seconds:,.2f} s", f"{seconds / total:.0%}")
        for name, seconds in stages.items()
    ]
    return _table(("stage", "time", "share"), rows)


def _what(each: Comparison, case: CaseResult) -> str:
    if each.base is None:
        return f"{each.subject}, {each.detail or f'{case.unit}/s'}"
    detail = f", {each.detail}" if each.detail else ""
    return f"{each.subject} / {each.base}{detail}"


def _aim(each: Comparison) -> str:
    if each.aim is None:
        return ""
    return f"{'at most ' if each.detail else ''}{_multiple(each.aim, each)}"


def _verdict(each: Comparison) -> str:
    return _VERDICTS[each.met]


def _multiple(value: float, each: Comparison) -> str:
    """A ratio, or a rate where there is nothing to compare with."""
    return _number(value) if each.base is None else f"{_number(value)}x"


def _range(spread: Spread, each: Comparison) -> str:
    return f"{_multiple(spread.q1, each)} - {_multiple(spread.q3, each)}"


def _number(value: float) -> str:
    """Three digits that count, with thousands marked."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    text = f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return text if float(text) else text.lstrip("-")


def _with_first(items: Iterable[T]) -> Iterator[tuple[bool, T]]:
    return ((number == 0, item) for number, item in enumerate(items))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
