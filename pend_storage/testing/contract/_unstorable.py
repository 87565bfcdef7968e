"""Contract of reads for unstorable texts: U+0000 and lone surrogates.

No record has them, so every read is answered as for any other missing text. Writing
them is refused; see :class:`~pend_storage.testing.contract._values.RefusedContract`.
"""

from __future__ import annotations

from typing import Final

import pytest

from pend_storage.errors import InvalidRecord
from pend_storage.query import Condition, field
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, commit, each_case
from pend_storage.testing.domain import Log, Ship, a_log, a_ship

__all__ = ["UnstorableTextContract"]

TEXTS: Final = ("\x00", "b\x00", "\ud800", "b\udfff", "\ud83d", "b\x00\ud800")
NAMES: Final = ("A", "b", "b\x01", "b\ud7ff", "b\ue000", "b\U0001f6a2", "c")
"""Names of ships, in order; some sort next to one of the texts."""


class UnstorableTextContract(Harness):
    """Contract of reads for unstorable texts, by every verb that reads."""

    def test_a_look_for_it_finds_nothing(self, store: Store) -> None:
        commit(store, a_ship("s1", name="b", call_sign="AB"), a_log("a"))
        ships, logs = store.collection(Ship), store.collection(Log)

        for text in TEXTS:
            assert ships.get_by("id", text) is None
            assert ships.get_by("call_sign", text) is None
            assert logs.get(text) is None
            assert logs.versioned(text) is None
            assert logs.get_many([text, "a"]) == {"a": a_log("a")}
            assert logs.delete(text) is False
            assert [log.id for log in logs.scan(after=text)] == [
                key for key in ("a",) if key > text
            ]
            with store.transaction() as tx:
                assert tx.collection(Ship).get_by("call_sign", text) is None
                assert tx.collection(Log).get(text) is None
                assert not tx.collection(Log).find(field("id") == text).items
                assert not tx.collection(Log).delete(text)

    def test_a_condition_with_it_means_what_it_says(self, store: Store) -> None:
        letters = "abcdefg"
        commit(
            store,
            *(
                a_ship(x, name=n, anything=n, flag="green")
                for x, n in zip(letters, NAMES, strict=True)
            ),
        )

        def found(*where: Condition) -> str:
            ships = store.collection(Ship)
            items = ships.find(*where).items
            assert ships.count(*where) == len(items)
            return "".join(ship.id for ship in items)

        for text in TEXTS:
            for name in ("name", "anything", "id", "flag"):
                assert found(field(name) == text) == ""
                assert found(field(name) != text) == letters
                assert found(field(name).starts_with(text)) == ""
                assert found(field(name).contains(text)) == ""
                assert found(field(name).in_([text])) == ""
            assert found(field("name").in_([text, "b"])) == "b"
            assert found(field("anything").in_([text, "b"])) == "b"
            assert found(field("extra") == {"a": [text]}) == ""
            assert found(field("extra", text) == 1) == ""
            assert found(field("extra", text) != 1) == letters
            assert found(field("extra", text).is_null()) == letters
            for name in ("name", "anything"):
                less = "".join(
                    x for x, n in zip(letters, NAMES, strict=True) if n < text
                )
                more = letters.removeprefix(less)
                assert found(field(name) < text) == found(field(name) <= text) == less
                assert found(field(name) > text) == found(field(name) >= text) == more

    @each_case("text", TEXTS[:4])
    def test_to_write_it_is_refused(self, store: Store, text: str) -> None:
        for record in (a_log(text), a_log("a", text), a_ship("s1", extra={text: 1})):
            with pytest.raises(InvalidRecord):
                store.collection(type(record)).put(record)

        assert store.collection(Log).count() == store.collection(Ship).count() == 0
