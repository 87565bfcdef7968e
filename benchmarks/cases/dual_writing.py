"""DualWriteStore against its own two stores, and against writing twice by hand."""

from __future__ import annotations

from typing import Final

from benchmarks.case import Aim, Case, Contender

__all__ = ["CASES"]

_OURS: Final = "DualWriteStore"
_BACK: Final = "PostgreSQL first"
_JSON: Final = "JsonStore"
_POSTGRES: Final = "PostgresStore"
_NAIVE: Final = "by hand"


def _puts(name: str, records: int, quick_records: int, naive: float) -> Case:
    return Case(
        name=name,
        title=f"Put into both stores, {records:,} records",
        unit="puts",
        records=records,
        quick_records=quick_records,
        contenders=(
            Contender(_OURS, "pair:puts", "parallel: JSON, then PostgreSQL"),
            Contender(_BACK, "pair:puts_with_postgres_first", "postgres-primary"),
            Contender(_JSON, "json_store:puts", "alone"),
            Contender(_POSTGRES, "postgres_store:puts", "alone"),
            Contender(
                _NAIVE, "naive_dual:puts", "json.dump of all, neither synced nor safe"
            ),
        ),
        aims=(
            Aim(_OURS, f"{_JSON} or {_POSTGRES}", 0.5),
            Aim(_BACK, f"{_JSON} or {_POSTGRES}", 0.5),
            Aim(_OURS, _JSON),
            Aim(_OURS, _POSTGRES),
            Aim(_OURS, _NAIVE, naive),
        ),
        text=(
            "One client; the record is in both stores, and durable in both, when the call "
            "returns. One after the other cannot be quicker than both together; the aim "
            "is twice the time of the slower one, that is half its rate."
        ),
    )


CASES: Final = (
    _puts("dual-put-139", 139, 139, 10.0),
    _puts("dual-put-10000", 10_000, 1_000, 300.0),
    Case(
        name="dual-put-16",
        title="Put into both stores in 16 threads",
        unit="puts",
        records=10_000,
        quick_records=1_000,
        contenders=(
            Contender(_OURS, "pair:puts_together", "16 threads"),
            Contender(_JSON, "json_store:puts_together", "alone, 16 threads"),
            Contender(_POSTGRES, "postgres_store:puts_together", "alone, 16 threads"),
        ),
        aims=(
            Aim(_OURS, f"{_JSON} or {_POSTGRES}", 0.5),
            Aim(_OURS, _JSON),
            Aim(_OURS, _POSTGRES),
        ),
        text="One record a call, sixteen threads at the same time.",
    ),
)
