"""Another server stands behind the address of PostgreSQL, at every step of a pair's work."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from pend_storage.testing.hostile import (
    Exchange,
    Plan,
    PostgresServers,
    Step,
    Templates,
    plans,
    run,
)

LOSING = [exchange for exchange in Exchange if exchange.loses]
KEEPING = [exchange for exchange in Exchange if not exchange.loses]
Record = Callable[[str, object], None]


def explore(
    templates: Templates,
    record: Record,
    number: int,
    examples: int,
    **choices: Any,
) -> None:
    """Carry out plans; each must end without anything wrong."""
    counts: Counter[str] = Counter()

    # No shrinking: a plan says by itself what happens, and each run takes seconds.
    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(plans(**choices))
    def one(plan: Plan) -> None:
        with (
            tempfile.TemporaryDirectory() as directory,
            PostgresServers(templates) as servers,
        ):
            verdict = run(servers, Path(directory), plan)
        counts.update(verdict.counts)
        assert not verdict.wrong, f"{verdict.wrong}\ntold: {verdict.reported}\n{plan}"

    try:
        one()
    finally:
        record("hostile", dict(counts))
    assert counts["exchanges"] == counts["runs"]


def number_of(exchange: Exchange, step: Step) -> int:
    return 10 * list(Exchange).index(exchange) + list(Step).index(step)


class TestWhatLoses:
    @pytest.mark.parametrize("step", Step)
    @pytest.mark.parametrize("exchange", LOSING)
    def test_what_an_exchange_loses_is_told_and_nothing_else_is_lost(
        self,
        templates: Templates,
        record_property: Record,
        exchange: Exchange,
        step: Step,
    ) -> None:
        number = number_of(exchange, step)
        choices = {"exchanges": [exchange], "steps": [step]}
        explore(templates, record_property, number, 1, **choices)


class TestWhatKeeps:
    @pytest.mark.parametrize("step", Step)
    @pytest.mark.parametrize("exchange", KEEPING)
    def test_an_exchange_that_loses_nothing_is_lived_through(
        self,
        templates: Templates,
        record_property: Record,
        exchange: Exchange,
        step: Step,
    ) -> None:
        number = number_of(exchange, step)
        choices = {"exchanges": [exchange], "steps": [step]}
        explore(templates, record_property, number, 1, **choices)


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("step", Step)
def test_any_plan(templates: Templates, record_property: Record, step: Step) -> None:
    number = 1_000 + list(Step).index(step)
    explore(templates, record_property, number, 300, steps=[step], longest=12)
