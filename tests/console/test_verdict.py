"""The verdict: seven answers in their order, as bad as the worst fact, never better."""

from __future__ import annotations

import dataclasses
import math
import re
from datetime import timedelta
from typing import Any, Final

import pytest
from hypothesis import given

from pend_storage.cli._app import root
from pend_storage.dualwrite import Lag
from pend_storage.operations.backup.facts import BackupFacts
from pend_storage.operations.facts import (
    Flag,
    NextPhase,
    Obstacle,
    PairFacts,
    StoreFacts,
)
from pend_storage.operations.quarantine import BrokenFile
from pend_storage.operations.status import EnvironmentStatus
from pend_storage.operations.verdict import QUESTIONS, Level, duration, verdict
from pend_storage.phases import Phase, Role
from pend_storage.stores.json._legacy_sync.file_lag import FileLag
from tests.console.statuses import GOOD, NOW, STATUSES, details, status

AWAY: Final = "connection refused"


def levels(found: EnvironmentStatus, **options: Any) -> dict[str, Level]:
    return {a.question: a.level for a in verdict(found, NOW, **options).answers}


# -- the whole ----------------------------------------------------------------------------


@pytest.mark.parametrize("phase", Phase)
def test_nothing_but_good_facts_is_ok_in_every_phase(phase: Phase) -> None:
    found = verdict(status(phase), NOW)

    assert found.level is Level.OK, found
    assert "all is well" in found.sentence


@given(STATUSES)
def test_seven_answers_in_their_order_as_bad_as_the_worst(
    found: EnvironmentStatus,
) -> None:
    judged = verdict(found, NOW)

    assert tuple(answer.question for answer in judged.answers) == QUESTIONS
    assert judged.level is max((a.level for a in judged.answers), key=lambda x: x.rank)
    assert all(answer.sentence for answer in judged.answers)


def needs_care(found: EnvironmentStatus) -> bool:
    """Return whether any fact needs care, read from the facts and not from the verdict."""
    sides = [side for side in (found.json, found.postgres) if side is not None]
    facts, backup = found.details, found.backup
    return bool(
        not found.is_well
        or found.flag.problem
        or found.flag.held
        or found.broken
        or any(side.problem or side.role is Role.FENCED for side in sides)
        or any(file.seconds > 60 for side in sides for file in side.files)
        or (backup is not None and (backup.problem or backup.last_good is None))
        or (
            facts is not None
            and (
                facts.waiting != 0
                or facts.divergences != 0
                or facts.validation == {"found": 24}
                or facts.backfill == "interrupted"
                or (
                    facts.lag is not None
                    and (
                        facts.lag.blocked
                        or not facts.lag.secondary_up
                        or (facts.lag.commits and facts.lag.seconds > 60)
                    )
                )
            )
        )
    )


@given(STATUSES)
def test_nothing_that_needs_care_stands_beside_all_is_well(
    found: EnvironmentStatus,
) -> None:
    judged = verdict(found, NOW)

    if needs_care(found):
        assert judged.level is not Level.OK
        assert "all is well" not in judged.sentence
        assert "nothing waits" not in judged.sentence
        [todo] = [a for a in judged.answers if a.question == "next"]
        assert todo.level is judged.level
        assert todo.sentence != "nothing is to be done"


def test_quarantined_records_are_never_passed_over() -> None:
    found = verdict(status(details=details(Phase.PARALLEL, waiting=24)), NOW)

    assert found.level is Level.ATTENTION
    assert "waiting for a decision: 24 records" in found.sentence


KNOWN: Final[dict[type, set[str]]] = {
    EnvironmentStatus: {
        "environment", "configuration", "flag", "phase", "json", "postgres", "problem",
        "details", "backup", "broken", "jobs", "compared",
    },
    Flag: {
        "wanted", "place", "version", "writable", "problem", "is_reachable", "held",
    },
    StoreFacts: {"place", "role", "epoch", "problem", "files"},
    PairFacts: {
        "lag", "backfill", "validation", "divergences", "waiting", "ahead", "history",
    },
    BackupFacts: {
        "repository", "problem", "count", "last_good", "is_old", "window", "archive",
        "drill", "next_run", "failure", "damaged", "bytes", "free_bytes",
    },
    Lag: {"commits", "seconds", "secondary_up", "blocked"},
}  # fmt: skip
"""Facts for which the verdict was thought through; a new one is to be judged first."""


@pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: kind.__name__)
def test_every_fact_of_a_status_is_judged_or_known_to_need_no_judgement(
    kind: Any,
) -> None:
    fields = {field.name for field in dataclasses.fields(kind)}

    assert fields <= KNOWN[kind], "judge it in operations/verdict.py, then add it here"


# -- each question ------------------------------------------------------------------------


def side(role: Role, **facts: Any) -> StoreFacts:
    return StoreFacts(place="there", role=role, epoch=3, **facts)


CASES: Final[dict[str, tuple[EnvironmentStatus, str, Level, str]]] = {
    "primary away": (
        status(postgres=StoreFacts(place="db", problem=AWAY)),
        "failing", Level.FAILING, "PostgreSQL is primary and does not answer",
    ),
    "both away": (
        status(
            None,
            json=StoreFacts(place="data", problem=AWAY),
            postgres=StoreFacts(place="db", problem=AWAY),
        ),
        "failing", Level.FAILING, "may be primary",
    ),
    "unread file": (
        status(broken=(BrokenFile(file="db.json", id="ab", reason="x", unread=True),)),
        "failing", Level.FAILING, "could never be read",
    ),
    "no pair": (
        status(problem="the epochs differ"),
        "failing", Level.FAILING, "cannot be opened as a pair",
    ),
    "fenced": (
        status(postgres=side(Role.FENCED), json=side(Role.SECONDARY)),
        "failing", Level.ATTENTION, "a switch is under way",
    ),
    "secondary away": (
        status(json=StoreFacts(place="data", problem=AWAY)),
        "risk", Level.RISK, "misses every commit",
    ),
    "detached away": (
        status(Phase.JSON_ONLY, postgres=StoreFacts(place="db", problem=AWAY)),
        "risk", Level.ATTENTION, "takes no part",
    ),
    "lag": (
        status(details=details(Phase.PARALLEL, lag=Lag(9, 31.0, secondary_up=True))),
        "risk", Level.ATTENTION, "9 commits behind, for 31 s",
    ),
    "long lag": (
        status(details=details(Phase.PARALLEL, lag=Lag(9, 301.0, secondary_up=True))),
        "risk", Level.RISK, "for 5 min",
    ),
    "unknown lag": (
        status(details=details(Phase.PARALLEL, lag=Lag(1, math.inf, secondary_up=True))),
        "risk", Level.RISK, "for an unknown time",
    ),
    "blocked": (
        status(
            details=details(
                Phase.PARALLEL, lag=Lag(1, 1.0, secondary_up=True, blocked="refused")
            )
        ),
        "risk", Level.RISK, "replication is blocked: refused",
    ),
    "divergence": (
        status(details=details(Phase.PARALLEL, divergences=1)),
        "risk", Level.RISK, "the stores differ in 1 record",
    ),
    "old backup": (
        status(backup=dataclasses.replace(GOOD, is_old=True)),
        "risk", Level.RISK, "the last good backup is 60 min old",
    ),
    "no backup": (
        status(backup=dataclasses.replace(GOOD, last_good=None)),
        "risk", Level.RISK, "there is no verified backup",
    ),
    "late file": (
        status(
            json=side(
                Role.SECONDARY,
                files=(FileLag(file="w.json", records=2, seconds=90.0),),
            )
        ),
        "risk", Level.ATTENTION, "w.json shows the commits of 90 s ago",
    ),
    "another phase is wanted": (
        status(flag=Flag(wanted=Phase.PARALLEL, place="redis", writable=True)),
        "phase", Level.ATTENTION, "redis wants parallel",
    ),
    "flag away": (
        status(flag=Flag(wanted=None, place="redis", writable=True, problem=AWAY)),
        "phase", Level.ATTENTION, "the flag cannot be read",
    ),
    "the way back is closed": (
        status(postgres=StoreFacts(place="db", problem=AWAY)),
        "back", Level.FAILING, "its last commits would be lost",
    ),
    "the way back without JSON": (
        status(json=StoreFacts(place="data", problem=AWAY)),
        "back", Level.RISK, "JSON does not answer",
    ),
    "interrupted backfill": (
        status(details=details(Phase.PARALLEL, backfill="interrupted")),
        "running", Level.ATTENTION, "the backfill was interrupted",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_fact_is_answered_under_its_question(case: str) -> None:
    found, question, level, words = CASES[case]

    judged = verdict(found, NOW)

    [answer] = [a for a in judged.answers if a.question == question]
    assert (answer.level, words in answer.sentence) == (level, True), answer
    assert judged.level.rank >= level.rank


def test_the_way_back_is_named_with_its_cost() -> None:
    [back] = [a for a in verdict(status(), NOW).answers if a.question == "back"]

    assert "to parallel now: nothing would be lost" in back.sentence
    assert "writes waited 24 ms at the last switch" in back.sentence
    assert back.command == "pend-storage phase rollback --dry-run"


def test_blockers_of_the_next_phase_are_what_is_to_be_done() -> None:
    blocker = Obstacle(
        code="backup",
        sentence="none is verified",
        remedy="pend-storage backup create",
        can_be_accepted=True,
    )
    ahead = NextPhase(phase=Phase.POSTGRES_ONLY, ready=False, blockers=(blocker,))
    found = status(details=details(Phase.POSTGRES_PRIMARY, ahead=ahead))

    [todo] = [a for a in verdict(found, NOW).answers if a.question == "next"]

    assert "1 blocker before postgres-only; backup: none is verified" in todo.sentence
    assert todo.command == "pend-storage backup create"


@pytest.mark.parametrize(
    ("age", "level"),
    [(0, Level.OK), (5, Level.OK), (6, Level.ATTENTION), (61, Level.RISK)],
)
def test_old_facts_are_not_taken_for_new_ones(age: int, level: Level) -> None:
    then = NOW - timedelta(seconds=age)

    assert levels(status(), looked_at=then)["fresh"] is level


def test_a_clock_that_went_back_makes_facts_no_younger() -> None:
    ahead = NOW + timedelta(minutes=5)

    assert levels(status(), looked_at=ahead)["fresh"] is Level.RISK


def test_a_lag_is_judged_against_the_retention_too() -> None:
    lag = Lag(5, 20.0, secondary_up=True)
    found = status(details=details(Phase.PARALLEL, lag=lag))

    assert levels(found)["risk"] is Level.OK
    assert levels(found, retention=timedelta(seconds=30))["risk"] is Level.RISK


# -- the commands -------------------------------------------------------------------------


@given(STATUSES)
def test_every_command_exists(found: EnvironmentStatus) -> None:
    for answer in verdict(found, NOW).answers:
        if answer.command is not None:
            _require_command(answer.command)


def _require_command(text: str) -> None:
    """Fail where the program has no such command or option."""
    program, *words = text.split()
    assert program == "pend-storage", text
    command: Any = root
    context = None
    while words and not words[0].startswith("-") and hasattr(command, "get_command"):
        import click

        context = click.Context(command, parent=context)
        command = command.get_command(context, words.pop(0))
        assert command is not None, text
    options = {name for p in command.params for name in p.opts}
    assert all(word in options for word in words if re.match("--", word)), text


def test_durations_are_readable() -> None:
    told = [duration(s) for s in (0.024, 5, 119, 120, 7_200, 172_800, math.inf)]

    assert told == [
        "24 ms",
        "5 s",
        "119 s",
        "2 min",
        "2 h",
        "2 days",
        "an unknown time",
    ]
