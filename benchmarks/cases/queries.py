"""Finding records other than by key, on both stores."""

from __future__ import annotations

from typing import Final

from benchmarks.case import Aim, Case, Contender

__all__ = ["CASES"]

_JSON: Final = "JsonStore"
_POSTGRES: Final = "PostgresStore"
_RAW: Final = "psycopg execute"
_HELD: Final = "one held connection"


def _case(
    name: str, title: str, unit: str, verb: str, text: str, *others: Contender
) -> Case:
    return Case(
        name=name,
        title=title,
        unit=unit,
        records=10_000,
        quick_records=2_000,
        contenders=(
            Contender(_JSON, f"json_store:{verb}"),
            Contender(_POSTGRES, f"postgres_store:{verb}"),
            Contender(_RAW, f"psycopg_held:{verb}", _HELD),
            *others,
        ),
        aims=(
            Aim(_POSTGRES, _RAW),
            Aim(_JSON, _RAW),
            *(Aim(_JSON, other.name) for other in others),
        ),
        text=text,
    )


CASES: Final = (
    _case(
        "query-get-by",
        "Get by a unique field",
        "gets",
        "gets_by",
        "One record of 10,000 by a field that is declared unique.",
    ),
    _case(
        "query-page",
        "A page of a filtered, sorted collection",
        "pages",
        "pages",
        "Two conditions (500 of 10,000 records meet both), sorted by a time, newest "
        "first, the first twenty and the cursor of the next page. One index serves it "
        "in PostgreSQL; JsonStore has an index for one of the conditions and sorts.",
        Contender("TinyDB", "tinydb_file:searches", "reads the file"),
        Contender(
            "dicts in a list", "whole_file:searches_in_memory", "no store at all"
        ),
    ),
    _case(
        "query-count",
        "Count by an indexed field",
        "counts",
        "counts",
        "A quarter of 10,000 records meets the condition.",
    ),
)
