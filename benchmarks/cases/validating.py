"""Validation with nothing kept from before, against doing it by hand."""

from __future__ import annotations

from typing import Final

from benchmarks.case import Aim, Case, Contender

__all__ = ["CASES"]

_OURS: Final = "validate"
_BY_HAND: Final = "stream, json.loads, =="

CASES: Final = (
    Case(
        name="validate",
        title="Compare a JSON directory with PostgreSQL",
        unit="records",
        records=100_000,
        quick_records=5_000,
        contenders=(
            Contender(_OURS, "validating:validates", "both directions, typed"),
            Contender(_BY_HAND, "validating:streams", "one direction, dicts in memory"),
        ),
        aims=(Aim(_OURS, None, 80_000), Aim(_OURS, _BY_HAND, 1.4)),
        most_rounds=7,
        text="Every record by value; no digest is kept from an earlier run.",
    ),
)
