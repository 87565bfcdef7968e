"""Soak: runs a server in a process of its own, and compares both stores afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing import Child
from pend_storage.testing.domain import SCHEMA

from .growth import Sample
from .server import Plan, Verdict, serve

__all__ = ["Soaked", "left_different", "soak"]


@dataclass(frozen=True, slots=True)
class Soaked:
    """Findings of a soak."""

    samples: Sequence[Sample]
    verdict: Verdict
    different: Sequence[str]
    """Keys under which the two stores hold something else."""


def soak(plan: Plan) -> Soaked:
    """Run the plan to its end."""
    with PostgresStore(SCHEMA, plan.url) as postgres:
        postgres.migrate()
    with Child[Any](serve, plan) as child:
        known = -1
        while known < len(reports := child.wait_for_reports(known + 1)):
            known = len(reports)  # it has not hung, and so may go on
        *samples, verdict = child.finish().reports
    return Soaked(samples, verdict, left_different(plan.directory, plan.url))


def left_different(directory: Path, url: str) -> list[str]:
    """The keys under which the two stores hold something else, or at another version."""
    with JsonStore(SCHEMA, directory) as json, PostgresStore(SCHEMA, url) as postgres:
        here, there = _rows(json), _rows(postgres)
    return [
        f"{collection} {key}"
        for collection, key in here.keys() | there.keys()
        if here.get((collection, key)) != there.get((collection, key))
    ]


def _rows(store: Store) -> dict[tuple[str, str], tuple[int, Any]]:
    return {
        (spec.name, row.key): (row.version, row.record)
        for spec in SCHEMA
        for row in store.scan(spec.name)
    }
