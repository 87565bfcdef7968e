"""Checked reads of a write, for every shape of file."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from typing_extensions import override

import pend_storage as ps
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from tests.checked_reads import WatchedStore
from tests.shapes.cases import Counter, Product, Settings


@dataclass(frozen=True)
class Post:
    id: int
    title: str = ""


LAYOUTS = (
    ps.records("db.json", Post, path="posts"),
    ps.records("db.json", Product, path="products", key=ps.MEMBER_NAME),
    ps.records("settings.json", Settings, shape=ps.OBJECT),
    ps.records("counter.json", Counter, shape=ps.SCALAR),
)
SCHEMA = ps.schema_of(LAYOUTS)


class Marked(WatchedStore):
    """Each view that is opened begins another operation: its shape decides the class."""

    @override
    def legacy(self, file: str, *, strict: bool = False) -> Any:
        view = super().legacy(file, strict=strict)
        self.watch.begin()
        return view


def _parts(store: Store) -> None:
    store.legacy("db.json")["posts"] = [{"id": 1}, {"id": 2}]
    store.legacy("db.json")["products"] = {"a": {"stock": 1}}
    store.legacy("db.json")["n"] = 1
    store.legacy("db.json").setdefault("m", {"x": 1})
    store.legacy("db.json").update(n=2)
    assert store.legacy("db.json").pop("m") == {"x": 1}
    del store.legacy("db.json")["posts"]
    assert store.legacy("db.json").snapshot() == {
        "posts": [],
        "products": {"a": {"stock": 1}},
        "n": 2,
    }


def _settings(store: Store) -> None:
    store.run(
        lambda tx: store.legacy("settings.json").replace_in(tx, {"port": 1, "x": 1})
    )
    store.legacy("settings.json")["port"] = 2
    store.legacy("settings.json").setdefault("mail", {"a": 1})
    assert store.legacy("settings.json").pop("x") == 1
    assert store.legacy("settings.json") == {"port": 2, "mail": {"a": 1}}
    assert store.collection(Settings).get("settings") == Settings(2, mail={"a": 1})


def _scalar(store: Store) -> None:
    store.legacy("counter.json").set(1)
    store.legacy("counter.json").set(2)
    assert store.legacy("counter.json").get() == 2
    assert store.collection(Counter).get("counter") == Counter(2)


def _puts(store: Store) -> None:
    posts = store.collection(Post)
    posts.put(Post(7))
    posts.put(replace(Post(7), title="t"))
    posts.put_many([Post(7), Post(8)])
    with store.transaction() as tx:
        tx.collection(Post).put(Post(8, "in"))
    store.collection("posts").put(Post(9, "by name"))
    assert [p.title for p in posts.scan()] == ["", "in", "by name"]


@pytest.mark.parametrize("operation", [_parts, _settings, _scalar, _puts])
def test_what_was_read_is_checked(operation: Callable[[Store], None]) -> None:
    store = Marked(MemoryStore(SCHEMA, layouts=LAYOUTS))
    operation(store)
    assert store.watch.unchecked == []
    assert store.watch.commits >= 2


def test_a_put_over_a_commit_in_between_keeps_what_that_wrote() -> None:
    store = MemoryStore(SCHEMA, layouts=LAYOUTS)
    rows: Any = store.collection("products")
    products = store.collection(Product)
    products.put(Product("a"))
    start = threading.Barrier(2)

    def known() -> None:
        start.wait()
        for stock in range(200):
            products.put(Product("a", stock=stock))

    def unknown() -> None:
        start.wait()
        for number in range(200):

            def change(tx: ps.Transaction, number: int = number) -> None:
                inside: Any = tx.collection("products")
                row = inside.get("a")
                inside.put(replace(row, extra={**row.extra, f"m{number}": 1}))

            store.run(change, attempts=100)

    threads = [threading.Thread(target=work) for work in (known, unknown)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows.get("a").stock == 199
    assert len(rows.get("a").extra) == 200
