"""Tables and numbers of the pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from benchmarks.measure import Spread
from benchmarks.results import CaseResult, Comparison, Figure

__all__ = [
    "VERDICTS",
    "aim_of",
    "figure",
    "multiple",
    "number",
    "spread_range",
    "subject_of",
    "table",
    "with_first",
]

T = TypeVar("T")
VERDICTS: Final = {True: "met", False: "missed", None: ""}


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    """Return three digits that count, with thousands marked."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    text = f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return text if float(text) else text.lstrip("-")


def multiple(value: float, each: Comparison) -> str:
    """Return a ratio, or a rate where there is nothing to compare with."""
    return number(value) if each.base is None else f"{number(value)}x"


def spread_range(spread: Spread, each: Comparison) -> str:
    """Return the quartiles of a comparison."""
    return f"{multiple(spread.q1, each)} - {multiple(spread.q3, each)}"


def aim_of(each: Comparison) -> str:
    """Return what a comparison should reach, or nothing."""
    if each.aim is None:
        return ""
    return f"{'at most ' if each.detail else ''}{multiple(each.aim, each)}"


def subject_of(each: Comparison, case: CaseResult) -> str:
    """Return what is compared with what."""
    if each.base is None:
        return f"{each.subject}, {each.detail or f'{case.unit}/s'}"
    detail = f", {each.detail}" if each.detail else ""
    return f"{each.subject} / {each.base}{detail}"


def figure(each: Figure) -> tuple[str, ...]:
    """Return what, value, quartiles, aim, verdict and note of a figure."""

    def shown(value: float | None) -> str:
        if value is None:
            return ""
        whole = value.is_integer() and not each.unit
        return f"{value:,.0f}" if whole else f"{number(value)} {each.unit}".rstrip()

    spread = "" if each.q1 is None else f"{shown(each.q1)} - {shown(each.q3)}"
    aim, verdict = shown(each.aim), VERDICTS[each.met]
    return (each.what, f"**{shown(each.value)}**", spread, aim, verdict, each.note)


def with_first(items: Iterable[T]) -> Iterator[tuple[bool, T]]:
    """Yield each item, and whether it is the first."""
    return ((position == 0, item) for position, item in enumerate(items))
