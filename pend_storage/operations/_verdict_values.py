"""Values of a verdict: levels, questions, answers, and what they are made from. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, NamedTuple, TypeAlias

__all__ = [
    "DOCTOR",
    "PAGE_LAG",
    "QUESTIONS",
    "TICKET_LAG",
    "Answer",
    "Found",
    "Level",
    "Question",
    "Verdict",
    "duration",
    "records",
    "why",
    "worst",
]

TICKET_LAG: Final = 30.0
"""Seconds of lag that need attention; the alerts have the same bounds."""
PAGE_LAG: Final = 300.0
"""Seconds of lag that put data at risk."""
DOCTOR: Final = "pend-storage doctor"

Question: TypeAlias = Literal[
    "failing", "risk", "phase", "back", "running", "next", "fresh"
]
"""Failing: is anything failing for users now? Risk: is data at risk? Phase: which one, by
whom, since when? Back: can one go back now, and at which cost? Running: what runs, and what
slows it? Next: what is to be done? Fresh: is what is shown of now?"""

QUESTIONS: Final[tuple[Question, ...]] = (
    "failing",
    "risk",
    "phase",
    "back",
    "running",
    "next",
    "fresh",
)
"""In the order in which they are asked and shown."""


class Level(StrEnum):
    """Level of an answer, in growing order of urgency."""

    OK = "ok"
    ATTENTION = "attention"
    """Something needs a decision; no user notices, and no data is at risk."""
    RISK = "risk"
    """Data, or the way back, is at risk if nothing is done."""
    FAILING = "failing"
    """Calls of users fail or wait now."""

    @property
    def rank(self) -> int:
        """Place in the order, 0 to 3."""
        return list(Level).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer to one question."""

    question: Question
    level: Level
    sentence: str
    command: str | None = None
    """Exact command that helps; None: nothing is to be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Verdict on an environment: seven answers, in the order of :data:`QUESTIONS`."""

    level: Level
    """Of the worst answer."""
    sentence: str
    """That answer's sentence; where nothing needs care, one that says so."""
    answers: tuple[Answer, ...]


class Found(NamedTuple):
    """One fact that needs care."""

    level: Level
    sentence: str
    command: str | None = None


def worst(question: Question, found: Sequence[Found], well: str) -> Answer:
    """Answer by the worst of several facts, and name all of them."""
    if not found:
        return Answer(question=question, level=Level.OK, sentence=well)
    ordered = sorted(found, key=lambda one: -one.level.rank)
    return Answer(
        question=question,
        level=ordered[0].level,
        sentence="; ".join(one.sentence for one in ordered),
        command=next((one.command for one in ordered if one.command), None),
    )


def records(count: int) -> str:
    return "1 record" if count == 1 else f"{count:,} records"


def duration(seconds: float) -> str:
    """Format a duration in words, from milliseconds to days; infinite is unknown."""
    if math.isinf(seconds) or math.isnan(seconds):
        return "an unknown time"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def why(problem: str | None) -> str:
    """Return the reason in an error of a store, without the advice to try again.

    Here the facts are probed again all the time.
    """
    reason, _, _ = (problem or "").partition(". Nothing was changed")
    return reason.removesuffix(".")
