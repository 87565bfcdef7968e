"""Comparing two stores: everything that differs is found, and nothing else."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from typing_extensions import override

import pend_storage as ps
from pend_storage._model.diff import ABSENT, Difference
from pend_storage.backfill import backfill
from pend_storage.records import ChangedRecord, Row
from pend_storage.reports import Confirmed, Divergence
from pend_storage.stores.wrapper import WrapperStore
from pend_storage.validation import CollectionCheck, validate
from pend_storage.validation._exact_json_compare import unequal


@dataclass(frozen=True)
class Wallet:
    id: str
    owner: str = ""
    balance: Decimal = Decimal(0)
    extra: dict[str, ps.JSON] = field(default_factory=dict)


SCHEMA = ps.Schema([ps.collection("wallets", Wallet)])


def store(*wallets: Wallet, version: int = 1) -> ps.MemoryStore:
    made = ps.MemoryStore(SCHEMA)
    made.apply([ChangedRecord("wallets", w.id, version, w) for w in wallets])
    return made


def many(count: int) -> list[Wallet]:
    return [Wallet(f"{n:05}", extra={"n": n, "tags": ["a", n]}) for n in range(count)]


def test_equal_stores_are_equal() -> None:
    left, right = store(*many(2_500)), ps.MemoryStore(SCHEMA)
    backfill(left, right)

    report = validate(left, right)

    assert report.ok
    assert report.checked == 2_500
    assert report.collections["wallets"] == CollectionCheck(checked=2_500)
    assert not report.sampled


def test_missing_extra_and_different_records_are_told_apart() -> None:
    left = store(Wallet("a"), Wallet("b", owner="x"), Wallet("d"))
    right = store(Wallet("b", owner="y"), Wallet("c"), Wallet("d"), version=2)

    report = validate(left, right)

    found = [(d.key, d.kind, d.versions) for d in report.divergences]
    assert found == [
        ("a", "missing", (1, 0)),
        ("b", "different", (1, 2)),
        ("c", "extra", (0, 2)),
    ]
    assert report.divergences[1].differences == (Difference(("owner",), "x", "y"),)
    assert report.found == 3
    assert report.collections["wallets"] == CollectionCheck(
        checked=4, missing=1, extra=1, different=1
    )


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"a": 1}, {"a": True}),
        ({"a": 0}, {"a": False}),
        ({"a": "1"}, {"a": 1}),
        ({"a": None}, {}),
        ({"a": []}, {"a": {}}),
        ({"a": {}}, {"a": None}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": 10**30}, {"a": 10**30 + 1}),
        ({"a": ""}, {"a": None}),
        ({"a": {"b": [{"c": 1}]}}, {"a": {"b": [{"c": True}]}}),
    ],
)
def test_json_values_that_are_not_equal_are_found(
    left: dict[str, Any], right: dict[str, Any]
) -> None:
    report = validate(store(Wallet("k", extra=left)), store(Wallet("k", extra=right)))

    assert report.found == 1
    assert report.divergences[0].differences[0].path[0] == "extra"


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (Wallet("k", balance=Decimal("1.50")), Wallet("k", balance=Decimal("1.5"))),
        (Wallet("k", extra={"a": 1}), Wallet("k", extra={"a": 1.0})),
        (Wallet("k", extra={"a": 1, "b": 2}), Wallet("k", extra={"b": 2, "a": 1})),
        (Wallet("k", extra={"a": 10**30}), Wallet("k", extra={"a": 10**30})),
    ],
)
def test_what_is_equal_by_value_is_equal(left: Wallet, right: Wallet) -> None:
    assert validate(store(left), store(right)).ok


def test_an_absent_member_is_shown_as_absent() -> None:
    report = validate(store(Wallet("k", extra={"a": None})), store(Wallet("k")))

    assert report.divergences[0].differences == (
        Difference(("extra", "a"), None, ABSENT),
    )


def test_empty_against_full_is_counted_whole_and_told_in_part() -> None:
    report = validate(store(*many(3_000)), store(), details=700)

    assert report.found == 3_000
    assert len(report.divergences) == 700
    assert report.collections["wallets"].missing == 3_000
    assert validate(store(), store(*many(5))).collections["wallets"].extra == 5


class _Settling(WrapperStore):
    """Its reads show a record later than its scans; a few writes are under way."""

    def __init__(self, inner: ps.Store, news: dict[str, list[Row]]) -> None:
        super().__init__(inner)
        self.news = news

    @override
    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        found = super().read(collection, keys, deleted=deleted, epoch=epoch)
        for key, rows in self.news.items():
            if key in found and rows:
                found[key] = rows.pop(0)
        return found


def test_what_was_just_being_written_is_no_divergence() -> None:
    old, new = Wallet("k", owner="old"), Wallet("k", owner="new")
    right = _Settling(store(old), {"k": [Row("k", 2, new)]})

    report = validate(store(new, version=2), right)

    assert report.ok


def test_what_keeps_changing_is_looked_at_until_it_holds_still() -> None:
    wallets = [Wallet("k", owner=str(n)) for n in range(5)]
    right = _Settling(
        store(wallets[0]), {"k": [Row("k", n, wallets[n]) for n in range(2, 5)]}
    )

    report = validate(store(Wallet("k", owner="x"), version=9), right)

    assert report.divergences[0].versions == (9, 1)
    assert right.news["k"] == []


class _Restless(WrapperStore):
    """No two reads of a record see the same version."""

    _versions = itertools.count(2)

    @override
    def read(self, collection: str, keys: Iterable[str], **options: Any) -> Any:
        found = super().read(collection, keys, **options)
        return {
            k: row._replace(version=next(self._versions)) for k, row in found.items()
        }


def test_what_never_holds_still_is_neither_equal_nor_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pend_storage.validation._confirmation._FIRST_PAUSE", 0.0)
    right = _Restless(store(Wallet("k", owner="b")))

    report = validate(store(Wallet("k", owner="a")), right)

    assert (report.found, report.unsettled) == (0, 1)
    assert not report.ok


class _Arriving(WrapperStore):
    """Its scan does not show yet what its reads find."""

    @override
    def scan(self, collection: str, **options: Any) -> Iterator[Row]:
        return iter(())


def test_beyond_the_details_only_what_is_confirmed_counts() -> None:
    """Everything seems to be missing, and all but three records are just arriving."""
    left, right = store(*many(2_500)), _Arriving(store(*many(2_497)))

    report = validate(left, right, details=2)

    assert report.found == report.collections["wallets"].missing == 3
    assert [d.key for d in report.divergences] == ["02497", "02498"]


def test_who_knows_more_decides_what_is_certain() -> None:
    asked: list[tuple[str, list[str]]] = []

    def certain(collection: str, keys: Sequence[str]) -> Confirmed:
        asked.append((collection, list(keys)))
        found = Divergence(
            collection=collection, key="b", kind="different", versions=(7, 8)
        )
        return Confirmed({"b": found}, frozenset("c"))

    left = store(Wallet("a"), Wallet("b"), Wallet("c"), Wallet("d"))

    report = validate(left, store(Wallet("d")), certain=certain)

    assert asked == [("wallets", ["a", "b", "c"])]
    assert (report.found, report.unsettled) == (1, 1)
    assert report.divergences[0].versions == (7, 8)


def test_a_sample_compares_about_its_share() -> None:
    left, right = store(*many(2_000)), store(*many(2_000))

    report = validate(left, right, sample=0.1, rng=random.Random(4))

    assert report.ok
    assert report.sampled
    assert 100 < report.checked < 320


def test_a_sample_finds_what_it_looks_at() -> None:
    left, right = store(*many(50)), store(*many(49), Wallet("00049", owner="x"))

    report = validate(left, right, sample=1)

    assert [d.key for d in report.divergences] == ["00049"]
    assert report.divergences[0].kind == "different"
    assert validate(left, right, sample=0).ok


def test_a_sample_of_collections_of_different_size_looks_at_everything() -> None:
    report = validate(store(*many(50)), store(*many(51)), sample=0)

    assert [d.kind for d in report.divergences] == ["extra"]


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_sample_is_a_share(share: float) -> None:
    with pytest.raises(ps.ConfigError, match="from 0 to 1"):
        validate(store(), store(), sample=share)


def test_progress_ends_with_the_whole() -> None:
    seen: list[tuple[int, int]] = []

    validate(
        store(*many(5_000)),
        store(*many(5_000)),
        progress=lambda *pair: seen.append(pair),
    )

    assert seen == [(2_000, 5_000), (4_000, 5_000), (5_000, 5_000)]


class _Failing(WrapperStore):
    @override
    def scan(self, collection: str, **options: Any) -> Iterator[Row]:
        yield Row("a", 1, Wallet("a"))
        raise ps.StoreUnavailable("gone", store="right")


def test_a_store_that_goes_away_ends_the_comparison() -> None:
    with pytest.raises(ps.StoreUnavailable):
        validate(store(*many(3_000)), _Failing(store()))


# -- texts --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (b'{"a":1,"b":[1.0]}', b'{ "b":[1], "a": 1}'),
        (b'{"a":1,"a":2}', b'{"a":1, "a":2}'),
        (b"[NaN]", b"[ NaN]"),
        (b"[1e22]", b"[10000000000000000000000]"),
        (b"[1e400]", b"[1E400]"),
        (b"[-0.0]", b"[0]"),
        (b'["\\u00e9"]', '["é"]'.encode()),
        (b'["\\ud800"]', b'["\\uD800"]'),
        (b"\xef\xbb\xbf[1]", b"[1 ]"),
        (b"{}", b"{ }"),
        (b"[]", b"[\n]"),
        (b"{", b"{"),
        (b"", b""),
        (b'{"logs": [{"a": 1}, {"b": 2}]}', b'{"logs":[{"a":1},{"b":2}]}'),
        (b"[%b]" % (b"9" * 5_000), b"[ %b]" % (b"9" * 5_000)),
    ],
)
def test_texts_of_equal_value_are_equal(left: bytes, right: bytes) -> None:
    assert list(unequal(left, right)) == []


@pytest.mark.parametrize(
    ("left", "right", "path"),
    [
        (b"[true]", b"[1]", (0,)),
        (b'{"a":1,"a":2}', b'{"a":2}', ()),
        (b'{"a":1,"a":2}', b'{"a":2,"a":1}', ()),
        (b"[NaN]", b"[null]", (0,)),
        (b"[NaN]", b"[Infinity]", (0,)),
        (b"[1}", b"[1 }", ()),
        (b"[1,]", b"[1 ,]", ()),
        (b"[,1]", b"[ ,1]", ()),
        (b'{"a"}', b'{"a" }', ()),
        (b'{"a":1,}', b'{"a":1 ,}', ()),
        (b"[1] 2", b"[1]  2", ()),
        (b"[12345678901234567890123]", b"[12345678901234567890124]", (0,)),
        (b"[0.1]", b"[0.10000000000000000001]", (0,)),
        (b'["\\ud800"]', b'["?"]', (0,)),
        (b'{"logs": [1, 2]}', b'{"logs": [1, 3]}', ("logs", 1)),
        (b'{"a": {"b": {"c": 1}}}', b'{"a": {"b": {"c": 2}}}', ("a", "b", "c")),
        (b"[1, 2]", b"[1]", (1,)),
        (b'{"a": 1}', b'{"b": 1}', ("a",)),
        (b"[]", b"{}", ()),
        (b"[null]", b"[]", (0,)),
        (b"{", b"{ ", ()),
        (b"", b"[]", ()),
        (b"\xff", b"\xfe", ()),
        (b"[" * 100_000, b"[" * 100_001, ()),
    ],
)
def test_texts_of_other_value_are_told_with_their_place(
    left: bytes, right: bytes, path: tuple[str | int, ...]
) -> None:
    assert next(unequal(left, right)).path == path


def test_a_long_text_is_shown_shortened() -> None:
    found = next(unequal(b'["%b"]' % (b"x" * 999), b'["y"]'))

    assert len(found.left) == 203
    assert found.left.endswith("...")
    assert found.right == '"y"'
