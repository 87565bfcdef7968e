"""Cost of a call with more records, and with larger ones."""

from __future__ import annotations

from typing import Final

from benchmarks.case import Aim, Case, Contender

__all__ = ["CASES"]

_COUNTS: Final = (1_000, 10_000, 100_000, 1_000_000)
_SIZES: Final = {"200 B": 200, "2 KB": 2_000, "20 KB": 20_000, "200 KB": 200_000}
_STORES: Final = {"json": "JsonStore", "postgres": "PostgresStore"}
_VERBS: Final = ("get", "put")


def _by_count(store: str, verb: str) -> Case:
    names = [f"{count:,} records" for count in _COUNTS]
    return Case(
        name=f"count-{store}-{verb}",
        title=f"{verb.capitalize()} by the number of records, {_STORES[store]}",
        unit=f"{verb}s",
        server=store == "postgres",
        records=_COUNTS[-1],
        quick_records=_COUNTS[1],
        contenders=tuple(
            Contender(
                name,
                f"scaling:{store}_by_count",
                options={"records": count, "verb": verb},
            )
            for name, count in zip(names, _COUNTS, strict=True)
        ),
        aims=tuple(Aim(name, names[0]) for name in names[1:]),
        most_rounds=7,
        memory=False,
        rivals=False,
        quick=verb == "get",
        text="One client, one record a call; keys at random from all of them.",
    )


def _by_size(store: str, verb: str) -> Case:
    names = list(_SIZES)
    return Case(
        name=f"size-{store}-{verb}",
        title=f"{verb.capitalize()} by the size of a record, {_STORES[store]}",
        unit=f"{verb}s",
        server=store == "postgres",
        records=100,
        quick_records=20,
        contenders=tuple(
            Contender(
                name,
                f"scaling:{store}_by_size",
                options={"size": size, "verb": verb},
            )
            for name, size in _SIZES.items()
        ),
        aims=tuple(Aim(name, names[0]) for name in names[1:]),
        most_rounds=7,
        memory=False,
        rivals=False,
        quick=verb == "put",
        text="One client, one record a call. The text in it cannot be compressed.",
    )


CASES: Final = (
    *(_by_count(store, verb) for store in _STORES for verb in _VERBS),
    *(_by_size(store, verb) for store in _STORES for verb in _VERBS),
)
