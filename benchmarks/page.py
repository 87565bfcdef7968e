"""The page of the documentation: hand-written, with the numbers of a run put in.

Numbers stand between ``<!-- measured NAME -->`` and ``<!-- end -->``. NAME is ``facts``,
``summary``, ``missed``, ``trials``, or that of a case or a trial.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from benchmarks.measure import Spread
from benchmarks.results import (
    CaseResult,
    Comparison,
    Facts,
    Figure,
    Measured,
    Results,
    TrialResult,
)

__all__ = ["TEMPLATE", "as_text", "rendered", "write"]

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
        lines.append(f"\n{case.title} ({case.records:,} records, {case.rounds} rounds)")
        lines += [
            f"  {each.name:<24} {_number(each.spread.median):>12} {case.unit}/s"
            f"  best {_number(each.spread.best):>12}"
            + ("" if each.peak_mib is None else f"  peak {each.peak_mib:,.0f} MiB")
            for each in case.measured
        ]
        lines += [f"  {_line(each, case)}" for each in case.comparisons]
        lines += [f"  {name}: {seconds:.2f} s" for name, seconds in case.stages.items()]
        lines += [f"  without {name}: {why}" for name, why in case.absent.items()]
    for trial in results.trials:
        lines.append(f"\n{trial.title} ({trial.seconds:,.0f} s)")
        lines += [f"  {_figure_line(each)}" for each in trial.figures]
    return "\n".join(lines)


def _line(each: Comparison, case: CaseResult) -> str:
    aim = "" if each.aim is None else f", aim {_multiple(each.aim, each)}"
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
            _multiple(each.aim, each) if each.aim is not None else "",
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
        if each.met is False or (each.base is not None and each.spread.median < 1)
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
        f"{case.records:,} records, {case.rounds} rounds. Just before, the load was "
        f"{found.load:.1f}, and a synced append took {found.sync_microseconds:,.0f} µs."
    )
    parts = [
        case.text,
        how,
        f"![{case.title}: rates](benchmarks/{case.name}.svg)",
        _table(
            ("", f"{case.unit}/s", "quartiles", "best", "peak memory", ""),
            [_measured(each) for each in case.measured],
        ),
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


def _measured(each: Measured) -> tuple[str, ...]:
    memory = "" if each.peak_mib is None else f"{each.peak_mib:,.0f} MiB"
    return (
        each.name,
        _number(each.spread.median),
        f"{_number(each.spread.q1)} - {_number(each.spread.q3)}",
        _number(each.spread.best),
        memory,
        each.note,
    )


def _stages(stages: dict[str, float]) -> str:
    total = sum(stages.values())
    rows = [
        (name, f"{seconds:,.2f} s", f"{seconds / total:.0%}")
        for name, seconds in stages.items()
    ]
    return _table(("stage", "time", "share"), rows)


def _what(each: Comparison, case: CaseResult) -> str:
    if each.base is None:
        return f"{each.subject}, {case.unit}/s"
    return f"{each.subject} / {each.base}"


def _aim(each: Comparison) -> str:
    return "" if each.aim is None else _multiple(each.aim, each)


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
