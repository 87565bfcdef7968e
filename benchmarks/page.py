"""Pages of the documentation: hand-written, with the numbers of a run put in.

``benchmarks.md`` is one screen; the details are in pages of the folder ``benchmarks``.
Numbers stand between ``<!-- measured NAME -->`` and ``<!-- end -->``. NAME is ``facts``,
``highlights``, ``guarantees``, ``summary``, ``missed``, ``trials``, or that of a case, a
trial or a series of cases.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.measure import spread_of
from benchmarks.results import (
    CaseResult,
    Comparison,
    Facts,
    Figure,
    Measured,
    Results,
    TrialResult,
)
from benchmarks.summary import guarantees, highlights
from benchmarks.tables import (
    VERDICTS,
    aim_of,
    figure,
    multiple,
    number,
    spread_range,
    subject_of,
    table,
    with_first,
)

__all__ = ["TEMPLATES", "as_text", "in_series", "rendered", "template_text", "write"]

_DOCS: Final = Path(__file__).parent.parent / "docs/explanation"
TEMPLATES: Final = (
    _DOCS / "benchmarks.md",
    *sorted((_DOCS / "benchmarks").glob("*.md")),
)
"""The summary, then the pages of details."""
_BLOCK: Final = re.compile(
    r"<!-- measured (?P<name>\S+) -->\n.*?<!-- end -->", re.DOTALL
)
_ABSENT: Final = "Not measured in this run."


def write(directory: Path, results: Results) -> None:
    """Write every page with the numbers of a run.

    Args:
        directory: gets ``benchmarks.md``, and the details in its folder ``benchmarks``.
        results: what was measured.
    """
    for template in TEMPLATES:
        path = directory / template.relative_to(_DOCS)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rendered(template.read_text(), results, _charts(template)))


def template_text() -> str:
    """Return the text of all pages, one after the other."""
    return "\n".join(template.read_text() for template in TEMPLATES)


def _charts(template: Path) -> str:
    return "benchmarks/" if template.parent == _DOCS else ""


def rendered(text: str, results: Results, charts: str = "benchmarks/") -> str:
    """Return a page with the numbers of a run between its marks.

    Args:
        text: the page.
        results: what was measured.
        charts: where the charts are, as the page sees it.
    """
    blocks = {
        "facts": _facts(results),
        "highlights": highlights(results),
        "guarantees": guarantees(results),
        "summary": _summary(results.cases),
        "missed": _missed(results),
        "trials": _trials(results.trials),
        **{case.name: _case(case, charts) for case in results.cases},
        **{trial.name: _trial(trial) for trial in results.trials},
        **{
            name: _series(name, cases, charts)
            for name, cases in in_series(results).items()
        },
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
        f"  {name} {number(value)}" for name, value in _medians(each.details).items()
    )
    return (
        f"  {each.name:<30} {number(each.spread.median):>12} {case.unit}/s"
        f"  best {number(each.spread.best):>12}{''.join(details)}"
        + ("" if each.peak_mib is None else f"  peak {each.peak_mib:,.0f} MiB")
    )


def _line(each: Comparison, case: CaseResult) -> str:
    aim = "" if each.aim is None else f", aim {aim_of(each)}"
    verdict = {True: " met", False: " MISSED", None: ""}[each.met]
    value, spread = multiple(each.spread.median, each), spread_range(each.spread, each)
    return f"{subject_of(each, case)}: {value} [{spread}]{aim}{verdict}"


def _figure_line(each: Figure) -> str:
    what, value, spread, aim, verdict, note = figure(each)
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
    return table(("", ""), rows)


def _summary(cases: Iterable[CaseResult]) -> str:
    rows = [
        (
            f"[{case.title}](#{case.name})" if first else "",
            subject_of(each, case),
            aim_of(each),
            f"**{multiple(each.spread.median, each)}**",
            spread_range(each.spread, each),
            _verdict(each),
        )
        for case in cases
        for first, each in with_first(e for e in case.comparisons if e.aim is not None)
    ]
    head = ("", "compared", "aim", "measured", "quartiles", "")
    return table(head, rows)


def _missed(results: Results) -> str:
    rows = [
        (
            case.title,
            subject_of(each, case),
            aim_of(each),
            multiple(each.spread.median, each),
        )
        for case in results.cases
        for each in case.comparisons
        if each.met is False or (case.rivals and each.lost)
    ]
    rows += [
        (trial.title, what, f"at most {aim}", value)
        for trial in results.trials
        for what, value, _, aim, verdict, _ in map(figure, trial.figures)
        if verdict == VERDICTS[False]
    ]
    if not rows:
        return "In this run, nowhere."
    return table(("", "compared", "aim", "measured"), rows)


def _case(case: CaseResult, charts: str) -> str:
    found = case.conditions
    how = (
        f"{_size(case)}. Just before, the load was "
        f"{found.load:.1f}, and a synced append took {found.sync_microseconds:,.0f} µs."
    )
    parts = [
        case.text,
        how,
        f"![{case.title}: rates]({charts}{case.name}.svg)",
        _rates(case),
        *_details(case),
        table(
            ("compared", "aim", "measured", "quartiles", "best to best", ""),
            [
                (
                    subject_of(each, case),
                    aim_of(each),
                    f"**{multiple(each.spread.median, each)}**",
                    spread_range(each.spread, each),
                    multiple(each.spread.best, each),
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
        (f"[{trial.title}](#{trial.name})" if first else "", *figure(each)[:-1])
        for trial in trials
        for first, each in with_first(f for f in trial.figures if f.aim is not None)
    ]
    return table(("", "", "found", "quartiles", "at most", ""), rows)


def _trial(trial: TrialResult) -> str:
    found = trial.conditions
    how = (
        f"It took {trial.seconds:,.0f} s. Just before, the load was {found.load:.1f}, "
        f"and a synced append took {found.sync_microseconds:,.0f} µs."
    )
    head = ("", "found", "quartiles", "aim: at most", "", "")
    rows = [figure(each) for each in trial.figures]
    return "\n\n".join([trial.text, how, table(head, rows)])


def _size(case: CaseResult) -> str:
    clients = "" if case.clients is None else f"{_clients(case.clients)}, "
    return f"{case.records:,} records, {clients}{case.rounds} rounds"


def _clients(count: int) -> str:
    return f"{count:,} client{'' if count == 1 else 's'}"


def _rates(case: CaseResult) -> str:
    """The memory is left out where it was not measured."""
    has_memory = any(each.peak_mib is not None for each in case.measured)
    memory = ("peak memory",) if has_memory else ()
    head = ("", f"{case.unit}/s", "quartiles", "best", *memory, "")
    return table(head, [_measured(each, memory=has_memory) for each in case.measured])


def _measured(each: Measured, *, memory: bool) -> tuple[str, ...]:
    peak = "" if each.peak_mib is None else f"{each.peak_mib:,.0f} MiB"
    return (
        each.name,
        number(each.spread.median),
        f"{number(each.spread.q1)} - {number(each.spread.q3)}",
        number(each.spread.best),
        *([peak] if memory else []),
        each.note,
    )


def _details(case: CaseResult) -> Iterator[str]:
    """Details beside the rate, as medians over the rounds."""
    names = list(dict.fromkeys(n for each in case.measured for n in each.details))
    if names:
        found = [(each.name, _medians(each.details)) for each in case.measured]
        yield table(
            ("", *names),
            [
                (name, *(number(each[n]) if n in each else "" for n in names))
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


def _series(name: str, cases: Sequence[CaseResult], charts: str) -> str:
    """Throughput of each contender by the number of clients."""
    rates: dict[str, dict[int, float]] = {}
    for case in cases:
        for each in case.measured:
            rates.setdefault(each.name, {})[case.clients or 0] = each.spread.median
    counts = [case.clients or 0 for case in cases]
    head = (f"{cases[0].unit}/s", *map(_clients, counts))
    rows = [
        (who, *(number(found[n]) if n in found else "" for n in counts))
        for who, found in rates.items()
        if len(found) == len(counts)
    ]
    chart = f"![Rates and waits by the number of clients]({charts}{name}.svg)"
    return f"{chart}\n\n{table(head, rows)}"


def _stages(stages: dict[str, float]) -> str:
    total = sum(stages.values())
    rows = [
        (name, f"{seconds:,.2f} s", f"{seconds / total:.0%}")
        for name, seconds in stages.items()
    ]
    return table(("stage", "time", "share"), rows)


def _verdict(each: Comparison) -> str:
    return VERDICTS[each.met]
