"""Verdict on an environment: what an operator asks at night, answered from its facts. Pure.

Seven questions in a fixed order; each answer has a level, a sentence, and where something
can be done, the exact command. The verdict is as bad as its worst answer, so that nothing
that needs care stands beside "nothing waits".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

__all__ = ["QUESTIONS", "Answer", "Level", "Question", "Verdict"]

Question: TypeAlias = Literal[
    "failing", "risk", "phase", "back", "running", "next", "fresh"
]
"""Failing: is anything failing for users now? Risk: is data at risk? Phase: which one, by
whom, since when? Back: can one go back now, and at which cost? Running: what runs, and what
slows it? Next: what is to be done? Fresh: is what is shown of now?"""

QUESTIONS: tuple[Question, ...] = (
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
