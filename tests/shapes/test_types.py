"""Types of callers: msgspec Structs, attrs classes, pydantic models, and their fields."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

import pend_storage as ps
from pend_storage.stores.memory import MemoryStore
from tests.ages import age

TEXT = """[
  {"id": 1, "userName": "ann", "home": {"street": "S", "floor": 3}, "more": [1]},
  {"id": 2, "userName": "bob", "home": {"street": "T"}, "mail": null}
]
"""


class StructHome(msgspec.Struct):
    street: str
    zip: str = ""


class StructUser(msgspec.Struct, rename={"name": "userName"}):
    id: int
    name: str
    home: StructHome
    mail: str | None = None
    tags: list[str] = msgspec.field(default_factory=list)


@dataclass
class PlainHome:
    street: str
    zip: str = ""


@dataclass
class PlainUser:
    id: int
    name: str
    home: PlainHome
    mail: str | None = None
    tags: list[str] = field(default_factory=list)


def _attrs() -> tuple[type, type, dict[str, str]]:
    attrs = pytest.importorskip("attrs")

    @attrs.define
    class Home:
        street: str
        zip: str = ""

    @attrs.define
    class User:
        id: int
        name: str
        home: Home
        mail: str | None = None
        tags: list[str] = attrs.field(factory=list)

    User.__annotations__.update(
        id=int, name=str, home=Home, mail=str | None, tags=list[str]
    )
    Home.__annotations__.update(street=str, zip=str)
    return User, Home, {"name": "userName"}


def _pydantic() -> tuple[type, type, dict[str, str]]:
    pydantic = pytest.importorskip("pydantic")
    home = pydantic.create_model("Home", street=(str, ...), zip=(str, ""))
    user = pydantic.create_model(
        "User",
        __config__=pydantic.ConfigDict(populate_by_name=True),
        id=(int, ...),
        name=(str, pydantic.Field(alias="userName")),
        home=(home, ...),
        mail=(str | None, None),
        tags=(list[str], pydantic.Field(default_factory=list)),
    )
    return user, home, {}


KINDS: dict[str, Callable[[], tuple[type, type, dict[str, str]]]] = {
    "dataclass": lambda: (PlainUser, PlainHome, {"name": "userName"}),
    "msgspec": lambda: (StructUser, StructHome, {}),
    "attrs": _attrs,
    "pydantic": _pydantic,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_of_any_kind_of_type(kind: str, tmp_path: Path) -> None:
    user, home, members = KINDS[kind]()
    make: Any = user
    path = tmp_path / "users.json"
    path.write_text(TEXT)
    age(path)
    layouts = (ps.records("users.json", make, members=members, unique=["name"]),)
    with ps.JsonStore(
        ps.schema_of(layouts), tmp_path, layouts=layouts, checkpoint_interval=None
    ) as store:
        users: Any = store.collection(user)
        ann: Any = users.get(1)
        assert ann == make(id=1, name="ann", home=home(street="S"))
        assert type(users.get(1)) is user
        assert users.get_by("name", "bob") == users.get(2)
        ann.home.zip = "99"
        ann.tags.append("new")
        users.put(ann)
        users.put(make(id=3, name="eve", home=home(street="U")))
        store.checkpoint()
        now = json.loads(path.read_text())
        assert now == [
            {
                "id": 1,
                "userName": "ann",
                "home": {"street": "S", "floor": 3, "zip": "99"},
                "more": [1],
                "tags": ["new"],
            },
            {"id": 2, "userName": "bob", "home": {"street": "T"}, "mail": None},
            {
                "id": 3,
                "userName": "eve",
                "home": {"street": "U", "zip": ""},
                "mail": None,
                "tags": [],
            },
        ]
        now[1]["home"]["zip"] = "7"
        now[2]["userName"] = ["no name"]
        path.write_text(json.dumps(now))
        age(path)
        store.checkpoint()
        assert users.get(2).home.zip == "7"
        assert users.get(3) is None
        (waiting,) = store.collection(ps.QuarantinedRecord).find().items
        assert waiting.code in {"bad-value", "missing-member"}
    assert json.loads(path.read_text()) == now


@dataclass(frozen=True)
class Keyed:
    id: uuid.UUID
    n: int = 0


@dataclass(frozen=True)
class Pair:
    a: str
    b: int
    n: int = 0


@pytest.mark.parametrize(
    ("kind", "declared", "records", "keys"),
    [
        (Keyed, {}, [Keyed(uuid.UUID(int=7)), Keyed(uuid.UUID(int=8), 1)], "id"),
        (Pair, {"key": ("a", "b")}, [Pair("x", 1), Pair("x", 2, 3)], ("a", "b")),
    ],
    ids=["uuid", "composite"],
)
def test_keys_are_given_as_the_caller_has_them(
    kind: type, declared: dict[str, Any], records: list[Any], keys: Any
) -> None:
    layouts = (ps.records("f.json", kind, **declared),)

    def key(record: Any) -> Any:
        if isinstance(keys, str):
            return getattr(record, keys)
        return tuple(getattr(record, name) for name in keys)

    store = MemoryStore(ps.schema_of(layouts), layouts=layouts)
    verbs: Any = store.collection(kind)
    verbs.put_many(records)
    one, two = records
    assert verbs.get(key(one)) == one
    assert verbs.get_many([key(two), key(one)]) == {key(two): two, key(one): one}
    assert verbs.versioned(key(two)).record == two
    assert verbs.find(ps.field("n") == two.n).items == (two,)
    with store.transaction() as tx:
        inside: Any = tx.collection(kind)
        assert inside.get(key(one)) == one
        assert inside.delete(key(one))
        assert inside.get(key(one)) is None
    assert list(verbs.scan()) == [two]
    assert verbs.delete(key(two))
    with pytest.raises(ps.InvalidRecord, match="is not a key of"):
        verbs.get(1.5)


def test_a_conditional_put_is_not_tried_again() -> None:
    layouts = (ps.records("f.json", Pair, key="a"),)
    store = MemoryStore(ps.schema_of(layouts), layouts=layouts)
    pairs = store.collection(Pair)
    version = pairs.put(Pair("x", 1), if_version=0)
    with pytest.raises(ps.Conflict):
        pairs.put(Pair("x", 2), if_version=0)
    assert pairs.put(Pair("x", 2), if_version=version) > version


def test_awaited_verbs_give_the_callers_type_too() -> None:
    layouts = (ps.records("f.json", Keyed),)
    inner = MemoryStore(ps.schema_of(layouts), layouts=layouts)
    one, two = Keyed(uuid.UUID(int=1)), Keyed(uuid.UUID(int=2), 5)

    async def work() -> None:
        async with ps.AsyncStore(inner) as store:
            verbs: Any = store.collection(Keyed)
            await verbs.put(one)
            await verbs.put_many([two])
            assert await verbs.get(one.id) == one
            assert await verbs.get_many([two.id]) == {two.id: two}
            assert (await verbs.versioned(two.id)).record == two
            assert (await verbs.find(order_by=["n"])).items == (one, two)
            assert [r async for r in verbs.scan()] == [one, two]
            async with store.transaction() as tx:
                inside: Any = tx.collection(Keyed)
                assert await inside.get(one.id) == one
                await inside.put(Keyed(one.id, 9))
            assert (await verbs.get(one.id)).n == 9
            assert await verbs.delete(one.id)

    asyncio.run(work())


@dataclass(frozen=True)
class Holder:
    id: str
    extra: int = 0


@dataclass(frozen=True)
class Odd:
    id: float


@dataclass
class Other:
    pass


@pytest.mark.parametrize(
    ("declare", "sentence"),
    [
        (lambda: ps.records("a.json", Holder), "Name the field otherwise"),
        (lambda: ps.records("a.json", Odd), "a key must be a str, an int or a UUID"),
        (lambda: ps.records("a.json", Pair), "has no field 'id' for the key"),
        (lambda: ps.records("a.json", int), "declare a dataclass"),
        (lambda: ps.records("a.json", Pair, key="a", shape="tree"), "there are: list"),
        (
            lambda: ps.records("a.json", Pair, key=ps.MEMBER_NAME, shape=ps.LIST),
            "MEMBER_NAME is the key of a MAP",
        ),
        (lambda: ps.records("a.json", Pair, key=("a", "b"), shape=ps.MAP), "one key"),
        (lambda: ps.records("a.json", Pair, shape=ps.SCALAR), "Give value="),
        (lambda: ps.records("a.json", Pair, key="a", value="a"), "is the key"),
        (
            lambda: ps.records("a.json", Pair, key="a", members={"c": "d"}),
            "has no field 'c'; it has: a, b, n",
        ),
        (
            lambda: ps.records("a.json", Pair, key="a", path="p", shape=ps.OBJECT),
            "a LIST or a MAP",
        ),
        (
            lambda: ps.schema_of(
                (
                    ps.records("a/x.json", Pair, key="a"),
                    ps.records("b/x.json", Pair, key="a"),
                )
            ),
            "declared by another file already",
        ),
        (
            lambda: MemoryStore(
                ps.Schema([ps.collection("a", Pair, key="a")]),
                layouts=[ps.records("a.json", Pair, key="a")],
            ),
            r"SCHEMA = ps.schema_of\(LAYOUTS",
        ),
        (
            lambda: MemoryStore(ps.Schema([]), layouts=ps.documents("a.json")),
            "has no collection 'documents'",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_way_on(
    declare: Callable[[], object], sentence: str
) -> None:
    with pytest.raises(ps.ConfigError, match=sentence):
        declare()


@dataclass(frozen=True)
class Five:
    id: str
    five: int | None = 5


def test_null_is_none_and_an_absent_member_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    text = '[{"id": "a", "five": null}, {"id": "b"}, {"id": "c", "five": 6}]'
    path.write_text(text)
    age(path)
    layouts = (ps.records("f.json", Five),)
    with ps.JsonStore(ps.schema_of(layouts), tmp_path, layouts=layouts) as store:
        found = [record.five for record in store.collection(Five).scan()]
        assert found == [None, 5, 6]
        store.collection(Five).put(Five("c", None))
    assert json.loads(path.read_text()) == [
        {"id": "a", "five": None},
        {"id": "b"},
        {"id": "c", "five": None},
    ]


@dataclass(frozen=True)
class Whole:
    """Declares every member of the file: it is stored as it is."""

    id: str
    name: str = ""
    extra: dict[str, ps.JSON] = field(default_factory=dict)
    legacy_position: int | None = None
    content_hash: str | None = None


def test_a_type_that_declares_all_is_stored_as_it_is(tmp_path: Path) -> None:
    layouts = (ps.records("w.json", Whole),)
    assert ps.schema_of(layouts)["w"].record_type is Whole
    schema = ps.Schema([ps.collection("w", Whole, unique=["name"])])
    (tmp_path / "w.json").write_text('[{"id": "a", "name": "x", "more": 1}]')
    age(tmp_path / "w.json")
    with ps.JsonStore(schema, tmp_path, layouts=layouts) as store:
        found = store.collection(Whole).get("a")
        assert found is not None
        assert found.extra == {"more": 1}
