"""A server under 200 clients for half an hour: it loses nothing and needs no more.

``PEND_SOAK_SECONDS`` says how long it takes, if not 1800.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import pytest

from pend_storage.testing.domain import SCHEMA

from .growth import growth
from .server import Plan
from .soaking import soak

SECONDS: Final = float(os.environ.get("PEND_SOAK_SECONDS", "1800"))
_PHASES: Final = 30
"""How many are entered: one a minute in half an hour."""
_SAMPLES: Final = 400


@pytest.mark.deep
@pytest.mark.timeout(SECONDS + 300)
def test_a_server_that_runs_for_long_loses_nothing_and_needs_no_more(
    tmp_path: Path, new_migrated_database: Any
) -> None:
    soaked = soak(
        Plan(
            directory=tmp_path / "data",
            url=new_migrated_database(SCHEMA),
            application=f"soak {os.getpid()}",
            seconds=SECONDS,
            between_samples=SECONDS / _SAMPLES,
            between_phases=SECONDS / _PHASES,
        )
    )

    verdict = soaked.verdict
    assert verdict.lost == []
    assert verdict.errors == []
    assert soaked.different == []
    assert growth(soaked.samples) == {}
    assert verdict.phases >= _PHASES // 2
    assert set(verdict.calls) == {
        "come_and_go",
        "count",
        "give_up",
        "move",
        "read",
        "search",
        "walk",
        "write",
    }
