"""The one screen of the benchmarks: a few ratios, a few figures, and the count of aims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.results import CaseResult, Figure, Results
from benchmarks.tables import figure, multiple, number, table

__all__ = ["GUARANTEES", "HIGHLIGHTS", "guarantees", "highlights"]


@dataclass(frozen=True, slots=True)
class Highlight:
    """A comparison that stands for its case."""

    label: str
    case: str
    subject: str
    base: str


@dataclass(frozen=True, slots=True)
class Guarantee:
    """A figure of a trial, and that of another project beside it, if it has one."""

    label: str
    trial: str
    ours: str
    theirs: str | None = None


HIGHLIGHTS: Final = (
    Highlight("get, JSON, 10,000 records", "json-get", "JsonStore", "diskcache"),
    Highlight(
        "put, JSON, 10,000 records",
        "json-put-10000",
        "JsonStore",
        "json.dump of the file",
    ),
    Highlight("the same", "json-put-10000", "JsonStore", "sqlite3, synced"),
    Highlight(
        "open, JSON, 100,000 records", "opening", "open", "json.load of the files"
    ),
    Highlight("get, PostgreSQL", "postgres-get", "PostgresStore", "psycopg_pool"),
    Highlight("put, PostgreSQL", "postgres-put", "PostgresStore", "psycopg_pool"),
    Highlight("1,000 asyncio clients", "clients-1000", "AsyncStore", "asyncpg"),
    Highlight(
        "one asyncio client", "clients-1", "AsyncStore", "asyncpg, held connection"
    ),
    Highlight(
        "put into both stores, 10,000 records",
        "dual-put-10000",
        "DualWriteStore",
        "by hand",
    ),
    Highlight(
        "migrate 100,000 records", "migrate", "migrate json", "COPY, ready-made bytes"
    ),
)
_PAIRS: Final = "parallel: keys left different"
_OURS: Final = "DualWriteStore"
_LAUNCHDARKLY: Final = "LaunchDarkly"
GUARANTEES: Final = (
    Guarantee(
        "keys left different by two writers, of 2,000",
        "dual-pairs",
        f"{_OURS}, {_PAIRS}",
        f"{_LAUNCHDARKLY}, {_PAIRS}",
    ),
    Guarantee(
        "false alarms of compared reads, of 40,000",
        "dual-false-alarms",
        f"{_OURS}: false alarms",
        f"{_LAUNCHDARKLY}: false alarms",
    ),
    Guarantee(
        "added to a read by a secondary that is 200 ms slow",
        "dual-slow-secondary",
        f"{_OURS}: added to a read",
        f"{_LAUNCHDARKLY}: added to a read",
    ),
    Guarantee("failed calls in 100 switches", "dual-switching", "failed calls"),
    Guarantee("lost writes in 100 switches", "dual-switching", "lost writes"),
    Guarantee(
        "write pause of a switch, 99th percentile",
        "dual-switching",
        "write pause, 99th percentile",
    ),
)


def highlights(results: Results) -> str:
    """Return the comparisons that stand for their cases, and how many aims were met."""
    cases = {case.name: case for case in results.cases}
    rows = [
        _row(each, cases[each.case]) for each in HIGHLIGHTS if each.case in cases
    ]  # fmt: skip
    head = ("", "ours", "a second", "beside it", "a second", "ratio")
    aims = [c.met for case in results.cases for c in case.comparisons]
    aims += [f.met for trial in results.trials for f in trial.figures]
    met, missed = aims.count(True), aims.count(False)
    count = f"Of {met + missed} aims, {met} were met and {missed} missed."
    return f"{table(head, rows)}\n\n{count}"


def guarantees(results: Results) -> str:
    """Return the figures in which nothing, or next to nothing, is right."""
    found = {
        (trial.name, each.what): each
        for trial in results.trials
        for each in trial.figures
    }
    rows = [
        (
            f"[{each.label}](#{each.trial})",
            _value(found.get((each.trial, each.ours))),
            _value(found.get((each.trial, each.theirs or ""))),
        )
        for each in GUARANTEES
    ]
    return table(("", _OURS, _LAUNCHDARKLY), rows)


def _row(each: Highlight, case: CaseResult) -> tuple[str, ...]:
    rates = {measured.name: measured.spread.median for measured in case.measured}
    ratios = [
        multiple(comparison.spread.median, comparison)
        for comparison in case.comparisons
        if (comparison.subject, comparison.base, comparison.detail)
        == (each.subject, each.base, "")
    ]
    return (
        f"[{each.label}](#{each.case})",
        each.subject,
        _rate(rates, each.subject),
        each.base,
        _rate(rates, each.base),
        f"**{ratios[0]}**" if ratios else "",
    )


def _rate(rates: dict[str, float], name: str) -> str:
    return number(rates[name]) if name in rates else ""


def _value(each: Figure | None) -> str:
    return "" if each is None else figure(each)[1]
