"""Health of a store: whether it can serve now, asked within a deadline.

A server that hangs must not hang the one that asks: each question has a thread of its own,
and a store that has not answered yet is not asked again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from weakref import WeakKeyDictionary

from pend_storage._fork import on_fork
from pend_storage._shown import clause
from pend_storage.contract import StoreBackend
from pend_storage.errors import PendStorageError
from pend_storage.phases import Role, RoleState

__all__ = [
    "DEADLINE",
    "NAMES",
    "Answer",
    "Health",
    "HealthCheck",
    "ask",
    "health_of",
    "health_of_pair",
]

NAMES: Final[Mapping[str, str]] = {"json": "JSON", "postgres": "PostgreSQL"}
"""Names of the sides in sentences."""

DEADLINE: Final = 1.0
"""Seconds in which a store must answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """One check of a store's health."""

    name: str
    """``store``, ``json``, ``postgres``, or ``primary`` for the pair as a whole."""
    ok: bool
    required: bool
    """Whether the store can serve only where this check is good."""
    sentence: str
    """Result in words: fit for people and logs, without values of records."""
    seconds: float
    """Time that the answer took; of one that did not come, the time that was waited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Health of a store at one moment."""

    at: datetime
    """When it was asked, UTC."""
    checks: tuple[HealthCheck, ...]

    @property
    def ready(self) -> bool:
        """True where every required check is good: calls of users can be served."""
        return all(check.ok for check in self.checks if check.required)

    @property
    def sentence(self) -> str:
        """The first check that keeps the store from serving; else that it can."""
        for check in self.checks:
            if check.required and not check.ok:
                return check.sentence
        return "the primary answers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer of one store to the question for its role."""

    state: RoleState | None = None
    """None: it has not answered."""
    problem: str | None = None
    """Why it has not answered; None: it has."""
    seconds: float = 0.0


class _Question:
    """One question to a store, in a thread of its own."""

    def __init__(self, store: StoreBackend) -> None:
        self._done = threading.Event()
        self._answer = Answer()
        self.began = time.monotonic()
        # The store is no attribute: what is kept by store must not keep the store alive.
        threading.Thread(
            target=self._run, args=(store,), name="pend-health", daemon=True
        ).start()

    def _run(self, store: StoreBackend) -> None:
        try:
            state = store.role()
            self._answer = Answer(state=state, seconds=self._passed())
        except PendStorageError as error:
            self._answer = Answer(problem=clause(str(error)), seconds=self._passed())
        except Exception as error:  # noqa: BLE001 - of another author's backend
            said = f"{type(error).__name__}: {error}"
            self._answer = Answer(problem=clause(said), seconds=self._passed())
        finally:
            self._done.set()

    def _passed(self) -> float:
        return time.monotonic() - self.began

    @property
    def is_done(self) -> bool:
        """True where the thread has ended its work."""
        return self._done.is_set()

    def answer(self, until: float) -> Answer:
        """Wait for the answer until a time of the monotonic clock."""
        if self._done.wait(max(0.0, until - time.monotonic())):
            return self._answer
        waited = self._passed()
        return Answer(problem=f"it has not answered for {waited:.1f} s", seconds=waited)


# -- the questions that are open -------------------------------------------------------

_open: WeakKeyDictionary[StoreBackend, _Question] = WeakKeyDictionary()
_lock = threading.Lock()


def _after_fork() -> None:
    """Forget the questions of the parent: their threads are not in the child."""
    global _lock  # noqa: PLW0603 - a thread of the parent may hold the old one
    _lock = threading.Lock()
    _open.clear()


on_fork(_after_fork)


def ask(stores: Mapping[str, StoreBackend], *, deadline: float) -> dict[str, Answer]:
    """Ask stores for their roles, all at once, and wait for them until the deadline.

    Args:
        stores: by name.
        deadline: seconds until which all of them must have answered.
    """
    until = time.monotonic() + deadline
    asked = {name: _question_to(store) for name, store in stores.items()}
    return {name: question.answer(until) for name, question in asked.items()}


def _question_to(store: StoreBackend) -> _Question:
    """Return the question that a store has not answered yet, or a new one."""
    with _lock:
        question = _open.get(store)
        if question is None or question.is_done:
            question = _open[store] = _Question(store)
        return question


def health_of(store: StoreBackend, *, deadline: float = DEADLINE) -> Health:
    """Return the health of one store that stands alone: whether it answers in time.

    Args:
        store: to ask.
        deadline: seconds until which it must have answered.
    """
    answer = ask({"store": store}, deadline=deadline)["store"]
    said = f"it does not serve: {answer.problem}" if answer.problem else "it answers"
    check = HealthCheck(
        name="store",
        ok=answer.problem is None,
        required=True,
        sentence=said,
        seconds=answer.seconds,
    )
    return Health(at=datetime.now(UTC), checks=(check,))


def health_of_pair(
    json: StoreBackend | None,
    postgres: StoreBackend | None,
    *,
    deadline: float = DEADLINE,
) -> Health:
    """Return the health of a pair: it serves where its primary answers in time.

    A secondary that is away, a lag and a switch under way keep no call from its answer,
    so they keep the pair from nothing: a fleet must not be restarted because of them.

    Args:
        json: None where it could not be opened.
        postgres: likewise.
        deadline: seconds until which the primary must have answered.
    """
    stores = {"json": json, "postgres": postgres}
    opened = {name: store for name, store in stores.items() if store is not None}
    answers = ask(opened, deadline=deadline)
    for name in stores.keys() - opened.keys():
        answers[name] = Answer(problem="it cannot be opened")
    sides = tuple(_side_check(name, answers[name]) for name in stores)
    return Health(at=datetime.now(UTC), checks=(_primary_check(answers), *sides))


def _side_check(name: str, answer: Answer) -> HealthCheck:
    said = answer.problem
    if answer.state is not None:
        said = f"{answer.state.role.value} at epoch {answer.state.epoch}"
    return HealthCheck(
        name=name,
        ok=answer.problem is None,
        required=False,
        sentence=f"{NAMES[name]}: {said}",
        seconds=answer.seconds,
    )


def _primary_check(answers: Mapping[str, Answer]) -> HealthCheck:
    """Judge by the roles that were read; a fenced store waits for the other one."""
    found = {name: a.state for name, a in answers.items() if a.state is not None}
    silent = [name for name in answers if name not in found]
    seconds = max((answer.seconds for answer in answers.values()), default=0.0)
    serving = [n for n, state in found.items() if state.role is Role.PRIMARY]
    if serving:
        name = max(serving, key=lambda n: found[n].epoch)
        seconds = answers[name].seconds
        ok, said = True, f"{NAMES[name]} is primary and answers"
    elif any(state.role is Role.FENCED for state in found.values()) and not silent:
        ok, said = True, "a switch is under way: writes wait for it, and do not fail"
    elif silent:
        named = " and ".join(NAMES[name] for name in silent)
        reasons = "; ".join(f"{answers[name].problem}" for name in silent)
        ok = False
        said = f"{named} is primary, or may be, and does not answer: {reasons}"
    else:
        ok, said = False, "no store is primary. See: pend-storage doctor"
    return HealthCheck(
        name="primary", ok=ok, required=True, sentence=said, seconds=seconds
    )
