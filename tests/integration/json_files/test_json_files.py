"""The legacy files of a JSON store: what stays as it was, and what is written."""

from __future__ import annotations

import errno
import json
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pend_storage import crashpoints
from pend_storage.errors import StoreUnavailable
from pend_storage.events import Event
from pend_storage.pend import LAYOUTS, SCHEMA, BlockchainEvent, User
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.stores.json import JsonStore
from pend_storage.testing.domain import SCHEMA as HARBOUR
from pend_storage.testing.domain import a_log, a_tally

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


def user_of(store: JsonStore, number: int) -> User:
    found = store.collection(User).get_by("blockchain_address", wallet(number)[1])
    assert found is not None
    return found


def log_of(directory: Path) -> list[Any]:
    found: list[Any] = json.loads((directory / EVENTS).read_text())
    return found


def ids(directory: Path) -> list[int]:
    return [item["id"] for item in log_of(directory)]


def event_of(store: JsonStore, number: int) -> BlockchainEvent:
    return next(
        found
        for found in store.collection(BlockchainEvent).scan()
        if found.legacy_id == str(number)
    )


def test_files_are_not_touched_as_long_as_nothing_changes(
    directory: Path, open_store: Callable[..., JsonStore]
) -> None:
    def signs() -> list[tuple[int, ...]]:
        """Status fields that change with a file; the time of the last read is not among them."""
        found = [(directory / name).stat() for name in (WALLETS, EVENTS)]
        return [(s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in found]

    before = signs()

    store = open_store()
    store.checkpoint()
    store.compact()
    store.close()

    assert signs() == before


def test_a_change_changes_its_own_lines_and_no_other_byte(
    directory: Path, open_store: Callable[..., JsonStore]
) -> None:
    store = open_store()
    before = (directory / WALLETS).read_text()

    store.collection(User).put(
        replace(user_of(store, 3), blockchain_address="0x" + "b" * 40)
    )
    store.checkpoint()

    after = (directory / WALLETS).read_text()
    assert after == before.replace(wallet(3)[1], "0x" + "b" * 40)


def test_a_new_record_is_all_that_differs(
    directory: Path, open_store: Callable[..., JsonStore]
) -> None:
    store = open_store()
    before = (directory / WALLETS).read_text()
    name, address = wallet(9)

    store.legacy(WALLETS)[name] = address
    store.checkpoint()

    text = (directory / WALLETS).read_text()
    line = f',\n    "{name}" :"{address}"'
    assert line in text
    assert text.replace(line, "") == before


def test_a_deleted_record_is_all_that_is_gone(
    directory: Path, open_store: Callable[..., JsonStore]
) -> None:
    store = open_store()
    before = log_of(directory)

    store.collection(BlockchainEvent).delete(event_of(store, 3).id)
    store.checkpoint()

    assert log_of(directory) == [item for item in before if item["id"] != 3]


def test_a_log_that_grows_at_the_front_keeps_the_rest_in_place(
    directory: Path, open_store: Callable[..., JsonStore]
) -> None:
    store = open_store()
    rest = (directory / EVENTS).read_text().removeprefix("[\n")

    store.legacy(EVENTS).insert(0, event(6))
    store.checkpoint()
    store.legacy(EVENTS).insert(0, event(7))
    store.checkpoint()

    assert ids(directory) == [7, 6, 5, 4, 3, 2, 1]
    assert (directory / EVENTS).read_text().endswith(rest)


def test_everything_is_readable_by_json_load_after_closing(
    directory: Path, open_store: Callable[..., JsonStore]
) -> None:
    store = open_store()
    changed = replace(event_of(store, 3), amount=None)
    store.collection(BlockchainEvent).put(changed)
    store.close()

    assert [item.get("amount") for item in log_of(directory)] == [
        "250",
        "250",
        None,
        "250",
        "250",
    ]


def test_files_follow_by_themselves_within_the_interval(
    directory: Path, open_store: Callable[..., JsonStore], events: list[Event]
) -> None:
    store = open_store(checkpoint_interval=0.02)
    store.legacy(WALLETS)[wallet(9)[0]] = wallet(9)[1]

    wait_until(lambda: wallet(9)[0] in (directory / WALLETS).read_text())


def wait_until(met: Callable[[], bool]) -> None:

    end = time.monotonic() + 20
    while not met():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def test_mode_and_link_of_a_file_stay(
    directory: Path, open_store: Callable[..., JsonStore], tmp_path: Path
) -> None:
    elsewhere = directory / "elsewhere"
    elsewhere.mkdir()
    target = (directory / WALLETS).rename(elsewhere / "w.json")
    (directory / WALLETS).symlink_to(target)
    target.chmod(0o640)
    store = open_store()

    store.legacy(WALLETS)[wallet(9)[0]] = wallet(9)[1]
    store.checkpoint()

    assert (directory / WALLETS).is_symlink()
    assert wallet(9)[0] in target.read_text()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_file_may_be_elsewhere(directory: Path, tmp_path: Path) -> None:
    place = tmp_path / "other" / "wallets.json"
    place.parent.mkdir()
    (directory / WALLETS).rename(place)

    with JsonStore(
        SCHEMA,
        directory,
        layouts=LAYOUTS,
        files={WALLETS: place},
        checkpoint_interval=None,
    ) as store:
        store.legacy(WALLETS)[wallet(9)[0]] = wallet(9)[1]

    assert wallet(9)[0] in json.loads(place.read_text())
    assert not (directory / WALLETS).exists()


def test_collections_without_a_layout_have_a_file_that_is_adopted_again(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    with JsonStore(HARBOUR, first) as store:
        store.collection("tallies").put_many([a_tally("b", 2), a_tally("a", 1)])
        store.collection("logs").put(a_log("l", 'wörds "and" \u2028 lines\n'))
    second.mkdir()
    for name in ("tallies.json", "logs.json"):
        (second / name).write_bytes((first / name).read_bytes())

    with JsonStore(HARBOUR, second) as store:
        assert store.collection("tallies").get_many(["a", "b"]) == {
            "a": a_tally("a", 1),
            "b": a_tally("b", 2),
        }
        assert store.collection("logs").count() == 1

    lines = (first / "tallies.json").read_text().splitlines()
    assert lines[1].startswith('  "a": {')
    assert (second / "tallies.json").read_bytes() == (
        first / "tallies.json"
    ).read_bytes()


def test_files_that_no_layout_claims_are_told_and_left_alone(
    directory: Path, open_store: Callable[..., JsonStore]
) -> None:
    stranger = directory / "explorer-data" / "notes.json"
    stranger.write_text("not even JSON")

    store = open_store()
    store.close()

    assert open_store().unclaimed_files() == (stranger,)
    assert stranger.read_text() == "not even JSON"


def test_a_detached_store_leaves_its_files_alone(
    directory: Path, open_store: Callable[..., JsonStore]
) -> None:
    store = open_store()
    store.legacy(WALLETS)[wallet(9)[0]] = wallet(9)[1]
    detached = RoleState(Role.DETACHED, 1).to_meta()
    store.compare_and_set_meta(ROLE_META, None, detached)
    before = (directory / WALLETS).read_bytes()

    store.checkpoint()

    assert (directory / WALLETS).read_bytes() == before


def test_a_file_that_could_not_be_written_is_written_by_the_next_round(
    directory: Path, open_store: Callable[..., JsonStore], events: list[Event]
) -> None:
    store = open_store()
    store.legacy(WALLETS)[wallet(9)[0]] = wallet(9)[1]

    points = ("json.file-written", "json.file-noted", "json.file-swapped")
    for number, point in enumerate(points, start=8):
        with crashpoints.handled(failing_at(point)), pytest.raises(StoreUnavailable):
            store.checkpoint()
        store.checkpoint()
        assert wallet(9)[0] in (directory / WALLETS).read_text()
        store.legacy(WALLETS)[wallet(8)[0]] = f"0x{number * 100:040x}"

    store.checkpoint()
    assert list(json.loads((directory / WALLETS).read_text())) == [
        wallet(n)[0] for n in (1, 2, 3, 4, 5, 9, 8)
    ]
    assert "outside-edit-adopted" not in [e.name for e in events]


def failing_at(point: str) -> Callable[[str], None]:
    def fail(reached: str) -> None:
        if reached == point:
            raise OSError(errno.ENOSPC, "no space left")

    return fail


def test_a_file_in_a_directory_that_is_missing_is_made(tmp_path: Path) -> None:
    with JsonStore(SCHEMA, tmp_path, layouts=LAYOUTS) as store:
        store.legacy(EVENTS).insert(0, event(1))

    assert ids(tmp_path) == [1]


def test_one_file_that_cannot_be_written_does_not_stop_the_others(
    directory: Path, open_store: Callable[..., JsonStore], events: list[Event]
) -> None:
    store = open_store()
    store.legacy(WALLETS)[wallet(9)[0]] = wallet(9)[1]
    store.legacy(EVENTS).insert(0, event(6))
    passes: list[str] = []

    def fail_once(point: str) -> None:
        passes.append(point)
        if point == "json.file-written" and passes.count(point) == 1:
            raise OSError(errno.ENOSPC, "no space left")

    with crashpoints.handled(fail_once):
        store.close()

    assert ids(directory)[0] == 6
    assert wallet(9)[0] not in (directory / WALLETS).read_text()
    assert [e.name for e in events if e.level >= 40] == ["checkpoint-failed"]
    assert list(directory.glob(".wallet-db*")) == []
    open_store().close()
    assert wallet(9)[0] in (directory / WALLETS).read_text()
