"""Legacy files that a JSON store finds when its directory is first opened."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pend_storage.errors import CorruptFile
from pend_storage.events import Event
from pend_storage.pend import LAYOUTS, SCHEMA, User
from pend_storage.records import QuarantinedRecord
from pend_storage.stores.json import JsonStore

WALLETS = "wallet-db.json"
EVENTS = "explorer-data/transactions-log.json"


def wallet(number: int) -> tuple[str, str]:
    return f"0x{number:064x}", f"0x{number:040x}"


def event(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "type": "egp_minted",
        "timestamp": f"2025-06-19T07:58:{number:02}.380Z",
        "amount": "250",
        **more,
    }


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "explorer-data").mkdir()
    wallets = dict(wallet(n) for n in range(1, 6))
    # In a hand that no writer has: it must come back byte for byte.
    text = json.dumps(wallets, indent=4).replace(": ", " :")
    (tmp_path / WALLETS).write_text(text + "\n\n")
    log = [event(n) for n in range(5, 0, -1)]
    (tmp_path / EVENTS).write_text(json.dumps(log, indent=2))
    return tmp_path


def test_adoption_tells_of_each_file_what_was_read_adopted_and_quarantined(
    directory: Path, open_store: Callable[..., JsonStore], events: list[Event]
) -> None:
    text = (directory / WALLETS).read_text().replace(wallet(2)[1], "nonsense", 1)
    (directory / WALLETS).write_text(text)

    store = open_store()

    report = {one.file: one for one in store.adoption_report()}
    assert set(report) == {WALLETS, EVENTS}
    assert (report[WALLETS].read, report[EVENTS].read) == (5, 5)
    for one in report.values():
        assert one.read == one.adopted + one.quarantined
    aside = [record.file for record in store.collection(QuarantinedRecord).scan()]
    assert len(aside) == sum(one.quarantined for one in report.values())
    assert [e.name for e in events].count("file-adopted") == 2
    assert open_store().adoption_report() == store.adoption_report()


def test_many_who_open_a_directory_at_once_adopt_it_once(
    directory: Path, events: list[Event]
) -> None:
    barrier, counts = threading.Barrier(4), []

    def work() -> None:
        barrier.wait()
        with JsonStore(SCHEMA, directory, layouts=LAYOUTS, hook=events.append) as store:
            counts.append(store.collection(User).count())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counts == [5, 5, 5, 5]
    assert [e.name for e in events] == ["file-adopted", "file-adopted"]
    hidden = [path.name for path in directory.iterdir() if path.name.startswith(".")]
    assert hidden == [".pend-storage"]


def test_adoption_tells_how_far_it_is(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(
        "pend_storage.stores.json._legacy_sync.initial_import._REPORT_EVERY", 2
    )

    JsonStore(
        SCHEMA, directory, layouts=LAYOUTS, progress=lambda *step: told.append(step)
    ).close()

    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (10, 10)
    assert all(done <= total for done, total in told)


def test_adopted_records_are_version_one_and_not_in_the_change_log(
    open_store: Callable[..., JsonStore],
) -> None:
    store = open_store()

    rows = list(store.scan("users"))

    assert {row.version for row in rows} == {1}
    assert list(store.changes()) == []


def test_a_unique_value_that_two_records_claim_is_quarantined_where_it_stands(
    directory: Path, open_store: Callable[..., JsonStore]
) -> None:
    text = (directory / WALLETS).read_text().replace(wallet(4)[1], wallet(2)[1])
    (directory / WALLETS).write_text(text)

    store = open_store()
    store.legacy(WALLETS)[wallet(9)[0]] = wallet(9)[1]
    store.checkpoint()

    (aside,) = store.collection(QuarantinedRecord).scan()
    assert (aside.file, aside.place) == (WALLETS, wallet(4)[0])
    assert store.legacy(WALLETS)[wallet(4)[0]] == wallet(2)[1]
    shown = json.loads((directory / WALLETS).read_text())
    assert list(shown) == [wallet(n)[0] for n in (1, 2, 3, 4, 5, 9)]


def test_a_broken_file_is_left_as_it_is_until_it_is_accepted(
    directory: Path, open_store: Callable[..., JsonStore], events: list[Event]
) -> None:
    (directory / WALLETS).write_text('{"half": ')
    store = open_store()
    store.legacy(EVENTS).insert(0, event(6))
    new = User(phone_hash=wallet(9)[0], blockchain_address=wallet(9)[1])
    with pytest.raises(CorruptFile):
        store.collection(User).put(new)
    store.checkpoint()
    assert (directory / WALLETS).read_text() == '{"half": '
    assert json.loads((directory / EVENTS).read_text())[0]["id"] == 6

    (aside,) = store.collection(QuarantinedRecord).scan()
    store.collection(QuarantinedRecord).put(replace(aside, status="accepted"))
    store.collection(User).put(new)
    store.checkpoint()

    shown = json.loads((directory / WALLETS).read_text())
    assert list(shown.values()) == [wallet(9)[1]]
    assert aside.raw == b'{"half": '


def test_a_broken_file_is_adopted_when_it_has_been_repaired(
    directory: Path, open_store: Callable[..., JsonStore]
) -> None:
    whole = (directory / WALLETS).read_text()
    (directory / WALLETS).write_text(whole[:100])
    store = open_store()
    with pytest.raises(CorruptFile):
        store.collection(User).count()

    (directory / WALLETS).write_text(whole)
    store.checkpoint()

    assert store.collection(User).count() == 5
    assert store.collection(QuarantinedRecord).count() == 0
    assert (directory / WALLETS).read_text() == whole
