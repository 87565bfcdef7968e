"""``migrate json`` against what PostgreSQL itself can take."""

from __future__ import annotations

from typing import Final

from benchmarks.case import Aim, Case, Contender

__all__ = ["CASES"]

_OURS: Final = "migrate json"
_COPY: Final = "COPY, ready-made bytes"

CASES: Final = (
    Case(
        name="migrate",
        title="Migrate a JSON directory to PostgreSQL",
        unit="records",
        records=100_000,
        quick_records=5_000,
        contenders=(
            Contender(
                _OURS, "migration:migrates", "adoption, then backfill; from legacy JSON"
            ),
            Contender(
                _COPY, "copying:copies", "rows made before, into the same tables"
            ),
        ),
        aims=(Aim(_OURS, _COPY, 0.5),),
        most_rounds=3,
        warm_up=False,
        stages="migration_stages:stages",
        text=(
            "A Pend server's directory, one record in a hundred irregular. Each round "
            "begins with an untouched directory and empty tables. Copying the directory "
            "first, as the command does unless told not to, is not part of it."
        ),
    ),
)
