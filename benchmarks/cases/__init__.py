"""Every case, in the order in which they are run and shown."""

from __future__ import annotations

from typing import Final

from benchmarks.case import Case
from benchmarks.cases import (
    clients,
    dict_idioms,
    dual_writing,
    json_store,
    migrating,
    opening,
    postgres_store,
    queries,
    scaling,
    validating,
)

__all__ = ["CASES"]

CASES: Final[tuple[Case, ...]] = (
    *json_store.CASES,
    *postgres_store.CASES,
    *clients.CASES,
    *migrating.CASES,
    *validating.CASES,
    *opening.CASES,
    *dict_idioms.CASES,
    *queries.CASES,
    *dual_writing.CASES,
    *scaling.CASES,
)
