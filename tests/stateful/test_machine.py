"""The machine itself: it must notice what is wrong, and know any schema."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Annotated, Literal

import pytest
from hypothesis import HealthCheck, Phase, settings
from typing_extensions import override

from pend_storage._model.attribution import new_token
from pend_storage._model.fields import Limit
from pend_storage.records import (
    JSON,
    Advance,
    Batch,
    ChangedRecord,
    Outcome,
    Pending,
    Row,
)
from pend_storage.schema import Schema, collection
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing import run_machine

# Finding is enough here: to make the example small would take longer.
FIND = settings(
    max_examples=500,
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)


class ForgetsAbsence(MemoryStore):
    """Checks what was read, but not that something was missing."""

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        checks = {place: v for place, v in batch.checks.items() if v}
        return super().commit(Batch(batch.operations, checks), epoch=epoch)


class AppliesTheLast(MemoryStore):
    """Takes the last record of a key, not the newest."""

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        last = {(record.collection, record.key): record for record in records}
        return super().apply(list(last.values()), epoch=epoch, mark=mark)


class HidesTheFirst(MemoryStore):
    """Does not find its first record by key."""

    @override
    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        rows = super().read(collection, keys, deleted=deleted, epoch=epoch)
        return {key: row for key, row in rows.items() if row.version != 1}


class ScansWithoutAsking(MemoryStore):
    """Ignores the epoch when scanning."""

    @override
    def scan(
        self,
        collection: str,
        *,
        after: str | None = None,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Row]:
        return super().scan(collection, after=after, deleted=deleted)


class ComparesCarelessly(MemoryStore):
    """Takes true for one."""

    @override
    def compare_and_set_meta(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        *,
        given: Mapping[str, JSON] | None = None,
    ) -> bool:
        found = self.meta(name)
        return found == expected and super().compare_and_set_meta(
            name, found, value, given=given
        )


class CommitsAgain(MemoryStore):
    """Does not know a commit again by its token."""

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        return super().commit(replace(batch, token=new_token()), epoch=epoch)

    @override
    def commit_each(
        self, batches: Sequence[Batch], *, epoch: int | None = None
    ) -> list[Outcome]:
        fresh = [replace(batch, token=new_token()) for batch in batches]
        return super().commit_each(fresh, epoch=epoch)


class KnowsTheToken(CommitsAgain):
    """Knows a commit again where it comes alone, and not in company."""

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        return MemoryStore.commit(self, batch, epoch=epoch)


class MovesAnyPosition(MemoryStore):
    """Writes a position whatever is stored."""

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        if mark is not None:
            mark = mark._replace(expected=self.meta(mark.name))
        return super().apply(records, epoch=epoch, mark=mark)


class AppliesBeforeItLooks(MemoryStore):
    """Refuses a position that is not what was read, with the data written already."""

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        super().apply(records, epoch=epoch)
        return super().apply(records, epoch=epoch, mark=mark)


class CountsTheEntryAtThePosition(MemoryStore):
    """Takes what is at a position for what comes after it."""

    @override
    def pending(self, after: int) -> Pending:
        return super().pending(max(after - 1, 0))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "broken",
    [
        ForgetsAbsence,
        pytest.param(AppliesTheLast, marks=pytest.mark.deep),
        HidesTheFirst,
        ScansWithoutAsking,
        ComparesCarelessly,
        CommitsAgain,
        KnowsTheToken,
        MovesAnyPosition,
        AppliesBeforeItLooks,
        CountsTheEntryAtThePosition,
    ],
)
def test_a_store_with_a_fault_is_found_out(broken: type[MemoryStore]) -> None:
    def make_store(schema: Schema) -> Store:
        return broken(schema)

    with pytest.raises(AssertionError):
        run_machine(make_store, settings=FIND)


@dataclass(frozen=True)
class Plate:
    """A record with narrow limits and a key that must look like one."""

    number: Annotated[str, Limit(pattern="^[A-Z]{2}-[0-9]{3}$", max_length=6)]
    seats: Annotated[int, Limit(gt=0, le=9)]
    weight: Annotated[Decimal, Limit(ge=0, digits=6, places=2)]
    colour: Literal["red", "green"] = "red"
    wheels: Literal[2, 4] | None = None
    tags: Annotated[list[str], Limit(max_length=2)] = field(default_factory=list)
    parts: Annotated[dict[str, JSON] | None, Limit(min_length=1)] = None
    code: Annotated[bytes, Limit(min_length=3, max_length=3)] = b"abc"
    tows: str | None = None


GARAGE = Schema(
    [
        collection(
            "plates",
            Plate,
            key="number",
            unique=["code", ["colour", "wheels"]],
            references={"tows": "plates"},
            indexes=[["-seats", "colour"]],
        )
    ]
)


def test_the_machine_knows_any_schema() -> None:
    run_machine(MemoryStore, schema=GARAGE)
