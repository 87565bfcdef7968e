from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any

import pytest

from pend_storage._model.fields import Limit
from pend_storage.errors import ConfigError, InvalidRecord, UnknownCollection
from pend_storage.records import JSON, Delete, LegacyFile, Put, QuarantinedRecord
from pend_storage.schema import (
    AUDIT,
    FINDINGS,
    LEGACY_FILES,
    QUARANTINE,
    Index,
    Schema,
    collection,
)
from pend_storage.testing.domain import SCHEMA, Ship, a_log, a_ship


@dataclass(frozen=True)
class Note:
    id: str
    owner: str | None = None
    slug: str = ""
    rank: int = 0
    extra: dict[str, JSON] = field(default_factory=dict)
    nullable_key: str | None = None


@dataclass(frozen=True)
class Other:
    id: str


@dataclass(frozen=True)
class Labels:
    id: str
    names: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    rows: list[dict[str, Any]] | None = None


def test_a_collection_says_what_was_declared() -> None:
    spec = collection(
        "notes",
        Note,
        unique=["slug", ["owner", "rank"]],
        references={"owner": "notes"},
        indexes=[["owner", "-rank"]],
        search=["slug"],
    )

    assert spec.key == "id"
    assert spec.unique == (("slug",), ("owner", "rank"))
    assert spec.indexes == (Index((("owner", False), ("rank", True))),)
    assert spec.search == ("slug",)
    assert spec.key_of(Note("n1")) == "n1"


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("Notes", {}, "lower-case identifier"),
        ("my notes", {}, "lower-case identifier"),
        ("", {}, "lower-case identifier"),
        ("n" * 41, {}, "40 characters"),
        ("changes", {}, "is taken"),
        ("alembic_version", {}, "is taken"),
        ("notes", {"key": "nothing"}, "has no field 'nothing'"),
        ("notes", {"unique": ["nothing"]}, "has no field 'nothing'"),
        ("notes", {"unique": [["slug", "nothing"]]}, "has no field 'nothing'"),
        ("notes", {"indexes": [["-nothing"]]}, "has no field 'nothing'"),
        ("notes", {"search": ["nothing"]}, "has no field 'nothing'"),
        ("notes", {"references": {"nothing": "notes"}}, "has no field 'nothing'"),
        ("notes", {"key": "rank"}, "'rank' must be text"),
        ("notes", {"search": ["rank"]}, "'rank' must be text"),
        ("notes", {"references": {"rank": "notes"}}, "'rank' must be text"),
        ("notes", {"key": "nullable_key"}, "must not be optional"),
        ("notes", {"unique": ["extra"]}, "JSON values cannot be"),
        ("notes", {"unique": [["slug", "extra"]]}, "JSON values cannot be"),
        ("notes", {"indexes": [["extra"]]}, "JSON values cannot be"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused(
    name: str, options: dict[str, Any], part: str
) -> None:
    with pytest.raises(ConfigError, match=part):
        collection(name, Note, **options)


def test_every_schema_has_the_system_collections_last() -> None:
    schema = Schema([collection("notes", Note)])

    assert schema.names == ("notes", QUARANTINE, LEGACY_FILES, FINDINGS, AUDIT)
    assert [spec.name for spec in schema] == list(schema.names)
    assert [spec.name for spec in schema.declared] == ["notes"]
    assert schema[QuarantinedRecord].name == QUARANTINE
    assert schema[LegacyFile].key == "file"
    assert Schema([]).names == (QUARANTINE, LEGACY_FILES, FINDINGS, AUDIT)


@pytest.mark.parametrize(
    ("collections", "part"),
    [
        ([collection("a", Note), collection("a", Other)], "twice"),
        ([collection("a", Note), collection("b", Note)], "twice"),
        ([collection("quarantine", Note)], "twice"),
        ([collection("legacy_files", Note)], "twice"),
        ([collection("findings", Note)], "twice"),
        ([collection("a", QuarantinedRecord)], "twice"),
        ([collection("a", Note, references={"owner": "b"})], "not declared"),
    ],
)
def test_collections_that_do_not_fit_together_are_refused(
    collections: list[Any], part: str
) -> None:
    with pytest.raises(ConfigError, match=part):
        Schema(collections)


def test_a_collection_may_refer_to_one_declared_later_and_to_itself() -> None:
    schema = Schema(
        [
            collection("notes", Note, references={"owner": "others", "slug": "notes"}),
            collection("others", Other),
        ]
    )

    found = [(spec.name, name) for spec, name in schema.referrers("others")]
    assert found == [("notes", "owner")]
    assert [name for _, name in schema.referrers("notes")] == ["slug"]
    assert schema.referrers(QUARANTINE) == ()


def test_a_collection_is_found_by_name_and_by_type() -> None:
    assert SCHEMA["ships"] is SCHEMA[Ship]


@pytest.mark.parametrize("name", ["nothing", Note])
def test_an_unknown_collection_is_named_with_those_that_are_known(name: Any) -> None:
    with pytest.raises(UnknownCollection) as caught:
        SCHEMA[name]

    assert caught.value.name in {"nothing", "Note"}
    assert "berths, ships" in str(caught.value)


def test_the_fingerprint_is_stable_and_changes_with_every_declaration() -> None:
    def made(**options: Any) -> str:
        return Schema([collection("notes", Note, **options)]).fingerprint()

    variants = [
        made(),
        made(key="slug"),
        made(unique=["slug"]),
        made(references={"owner": "notes"}),
        made(indexes=[["rank"]]),
        made(indexes=[["-rank"]]),
        made(search=["slug"]),
        Schema([collection("nodes", Note)]).fingerprint(),
        Schema([collection("notes", Other)]).fingerprint(),
    ]

    assert made() == made()
    assert len(set(variants)) == len(variants)
    assert all(len(variant) == 16 for variant in variants)


def test_put_checks_and_encodes_the_record() -> None:
    put = SCHEMA.put(Ship, a_ship("s1", speed=3))

    assert (put.collection, put.key) == ("ships", "s1")
    assert put.record == a_ship("s1", speed=3.0)
    assert SCHEMA["ships"].codec.decode(put.body) == put.record


def test_put_refuses_an_empty_key() -> None:
    with pytest.raises(InvalidRecord) as caught:
        SCHEMA.put("logs", a_log(""))

    assert caught.value.field == "id"


def test_what_the_encoder_refuses_is_refused_as_a_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def encode(_: object) -> bytes:
        raise RecursionError("too deep")

    monkeypatch.setattr(SCHEMA["logs"].codec, "encode", encode)

    with pytest.raises(InvalidRecord, match="too deep") as caught:
        SCHEMA.put("logs", a_log())

    assert caught.value.collection == "logs"


def test_put_and_delete_refuse_an_unknown_collection() -> None:
    with pytest.raises(UnknownCollection):
        SCHEMA.put("nothing", a_log())
    with pytest.raises(UnknownCollection):
        SCHEMA.delete("nothing", "a")


def test_of_several_operations_on_one_key_the_last_counts_in_its_place() -> None:
    first, second = SCHEMA.put("logs", a_log("a")), SCHEMA.put("logs", a_log("b"))
    delete = SCHEMA.delete("logs", "a")

    batch = SCHEMA.batch([first, second, delete], {("logs", "c"): 3})

    assert batch.operations == (second, delete)
    assert isinstance(batch.operations[0], Put)
    assert isinstance(batch.operations[1], Delete)
    assert batch.checks == {("logs", "c"): 3}


def test_a_batch_does_not_follow_later_changes_of_its_checks() -> None:
    checks = {("logs", "a"): 1}

    batch = SCHEMA.batch([], checks)
    checks["logs", "b"] = 2

    assert batch.checks == {("logs", "a"): 1}


@pytest.mark.parametrize(
    "labels",
    [
        Labels("l", names=["a", "é"]),
        Labels("l", counts={"a": 1}),
        Labels("l", rows=[{"a": [None]}]),
        Labels("l", rows=None),
    ],
)
def test_lists_and_objects_may_say_what_is_in_them(labels: Labels) -> None:
    schema = Schema([collection("labels", Labels)])

    put = schema.put("labels", labels)

    assert schema["labels"].codec.decode(put.body) == labels


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        (Labels("l", names=["a", 1]), "names"),  # type: ignore[list-item]
        (Labels("l", names=[None]), "names"),  # type: ignore[list-item]
        (Labels("l", counts={"a": "1"}), "counts"),  # type: ignore[dict-item]
        (Labels("l", counts={"a": 1.5}), "counts"),  # type: ignore[dict-item]
        (Labels("l", rows=["a"]), "rows"),  # type: ignore[list-item]
    ],
)
def test_what_could_not_be_read_back_is_not_written(labels: Labels, name: str) -> None:
    schema = Schema([collection("labels", Labels)])

    with pytest.raises(InvalidRecord) as caught:
        schema.put("labels", labels)

    assert caught.value.field == name


@dataclass(frozen=True)
class Strict:
    id: Annotated[str, Limit(min_length=2, pattern="^[a-z]+$")]


@pytest.mark.parametrize("key", ["a", "A1", "", "ab1"])
def test_limits_hold_for_keys_too(key: str) -> None:
    schema = Schema([collection("strict", Strict)])

    with pytest.raises(InvalidRecord):
        schema.put("strict", Strict(key))


@dataclass(frozen=True)
class Sized:
    id: str
    text: str | None = None
    raw: bytes | None = None
    number: int | None = None
    amount: Decimal | None = None
    neat: Annotated[str, Limit(max_length=1000)] = ""
    price: Annotated[Decimal, Limit(digits=2000, places=1500)] = Decimal(0)


SIZED = Schema(
    [
        collection(
            "sized",
            Sized,
            unique=["raw", ["amount", "price"]],
            indexes=[["number"], ["neat"]],
            references={"text": "sized"},
        )
    ]
)


@pytest.mark.parametrize(
    "record",
    [
        Sized("k" * 640),
        Sized("\U0001f6a2" * 160),
        Sized("k", text="x" * 640),
        Sized("k", raw=b"x" * 640),
        Sized("k", number=10**999),
        Sized("k", number=-(10**999)),
        Sized("k", amount=Decimal(10) ** 999),
        Sized("k", amount=Decimal("1E-999")),
        Sized("k", amount=Decimal("0E-9999")),
        Sized("k", neat="x" * 640),
        Sized("k", price=Decimal("1E-999")),
    ],
)
def test_what_fits_into_an_index_is_accepted(record: Sized) -> None:
    assert SIZED.put("sized", record).record == record


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (Sized("k" * 641), "id"),
        (Sized("é" * 321), "id"),
        (Sized("k", text="x" * 641), "text"),
        (Sized("k", raw=b"x" * 641), "raw"),
        (Sized("k", number=10**1000), "number"),
        (Sized("k", number=-(10**1000)), "number"),
        (Sized("k", amount=Decimal(10) ** 1000), "amount"),
        (Sized("k", amount=Decimal("1E-1000")), "amount"),
        (Sized("k", neat="x" * 641), "neat"),
        (Sized("k", price=Decimal("1E-1000")), "price"),
    ],
)
def test_what_does_not_fit_into_an_index_is_refused(record: Sized, name: str) -> None:
    with pytest.raises(InvalidRecord, match="index") as caught:
        SIZED.put("sized", record)

    assert caught.value.field == name


def test_more_than_an_index_holds_cannot_be_declared() -> None:
    collection("sized", Sized, indexes=[["text", "raw", "number"]])

    with pytest.raises(ConfigError, match="at most 3"):
        collection("sized", Sized, indexes=[["text", "raw", "number", "amount"]])
    with pytest.raises(ConfigError, match="at most 3"):
        collection("sized", Sized, unique=[["text", "raw", "number", "amount"]])
