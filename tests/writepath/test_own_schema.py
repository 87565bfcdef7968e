"""Records that need another one, in files of one's own schema."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from typing_extensions import override

from pend_storage import Schema, collection
from pend_storage.events import Event
from pend_storage.legacy import LIST, MAP, Member, ObjectMapping, RecordLayout, Source
from pend_storage.legacy._convert import text
from pend_storage.operations.quarantine import list_quarantined, retry
from pend_storage.records import JSON
from pend_storage.stores.json import JsonStore
from tests.ages import age


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """A member of ``customers.json``."""

    id: str
    name: str
    extra: dict[str, JSON] = field(default_factory=dict)
    legacy_position: int | None = None
    content_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An item of ``orders.json``, which needs a customer."""

    id: str
    customer: str
    extra: dict[str, JSON] = field(default_factory=dict)
    legacy_position: int | None = None
    content_hash: str | None = None


class _ById(ObjectMapping):
    @override
    def identity(self, record: Any) -> str:
        return str(record.id)


class CustomerMapping(_ById):
    collection = "customers"
    record_type: ClassVar[type[Any]] = Customer
    members: ClassVar[tuple[Member, ...]] = (
        Member("name", "name", text, required=True),
    )
    computed: ClassVar[tuple[str, ...]] = ()

    @override
    def complete(self, columns: dict[str, Any], source: Source) -> None:
        columns["id"] = source.name

    @override
    def name(self, record: Customer) -> str:
        return record.id

    @override
    def find(self, store: Any, name: str) -> Any:
        return store.collection("customers").get(name)


class OrderMapping(_ById):
    collection = "orders"
    record_type: ClassVar[type[Any]] = Order
    members: ClassVar[tuple[Member, ...]] = (
        Member("id", "id", text, required=True),
        Member("customer", "customer", text, required=True),
    )

    @override
    def complete(self, columns: dict[str, Any], source: Source) -> None:
        """Everything is in the columns."""


SCHEMA = Schema(
    [
        collection("customers", Customer, key="id"),
        collection("orders", Order, key="id", references={"customer": "customers"}),
    ]
)
LAYOUTS = (
    RecordLayout("customers.json", CustomerMapping(), shapes=(MAP,)),
    RecordLayout("orders.json", OrderMapping(), shapes=(LIST,)),
)
CUSTOMERS = {"ann": {"name": "Ann"}, "bob": {"name": "Bob"}}
ORDERS = [
    {"id": "1", "customer": "ann", "note": "x"},
    {"id": "2", "customer": "bob"},
    {"id": "3", "customer": "ann"},
]


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def store(tmp_path: Path, events: list[Event]) -> Iterator[JsonStore]:
    for file, value in (("customers.json", CUSTOMERS), ("orders.json", ORDERS)):
        (tmp_path / file).write_text(json.dumps(value))
        age(tmp_path / file)
    with JsonStore(
        SCHEMA,
        tmp_path,
        layouts=LAYOUTS,
        checkpoint_interval=None,
        hook=events.append,
    ) as made:
        yield made


@pytest.mark.parametrize("by_file", [False, True])
def test_who_needs_a_removed_record_waits_in_its_own_file(
    store: JsonStore, tmp_path: Path, events: list[Event], *, by_file: bool
) -> None:
    store.checkpoint()
    before = (tmp_path / "orders.json").read_bytes()
    if by_file:
        (tmp_path / "customers.json").write_text(json.dumps({"bob": CUSTOMERS["bob"]}))
        age(tmp_path / "customers.json")
        store.checkpoint()
    else:
        del store.legacy("customers.json")["ann"]

    store.checkpoint()
    assert [order.id for order in store.collection(Order).scan()] == ["2"]
    assert store.legacy("orders.json").snapshot() == ORDERS
    assert (tmp_path / "orders.json").read_bytes() == before
    assert list(json.loads((tmp_path / "customers.json").read_text())) == ["bob"]
    waiting = list_quarantined(store, file="orders.json", status="waiting")
    assert [r.code for r in waiting] == ["reference-lost"] * 2
    (told,) = [e for e in events if e.name == "file-record-removed"]
    assert all(record.id in told.message for record in waiting)

    store.legacy("customers.json")["ann"] = CUSTOMERS["ann"]
    assert all(retry(store, record).placed for record in waiting)
    store.checkpoint()
    assert (tmp_path / "orders.json").read_bytes() == before
    assert [order.id for order in store.collection(Order).scan()] == ["1", "2", "3"]


def test_an_order_of_a_customer_that_is_not_there_waits(store: JsonStore) -> None:
    orders = store.legacy("orders.json")

    orders[1] = {"id": "2", "customer": "absent"}
    orders.append({"id": "4", "customer": "absent"})

    assert [order["id"] for order in orders] == ["1", "2", "3", "4"]
    assert [order.id for order in store.collection(Order).scan()] == ["1", "3"]
    assert len(list_quarantined(store, file="orders.json")) == 2


def test_assignments_of_one_member_never_conflict(store: JsonStore) -> None:
    customers = store.legacy("customers.json")
    failed: list[Exception] = []

    def write(number: int) -> None:
        try:
            for turn in range(60):
                customers["ann"] = {"name": f"{number} {turn}"}
                if turn % 20 == number:
                    customers.pop("ann", None)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not be
            failed.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
