"""A JSON directory is read beside its servers, and nothing in it changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from pend_storage.errors import (
    ChangesExpired,
    ConfigError,
    CorruptFile,
    SchemaOutOfDate,
    StoreUnavailable,
)
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.query import field
from pend_storage.records import QuarantinedRecord
from pend_storage.stores._inmemory.sparse_state import SparseState
from pend_storage.stores.json import JsonStore, PassiveJsonStore
from pend_storage.stores.json._journal.compaction import FORGET_ALL, KEEP_A_WEEK
from pend_storage.stores.json._journal.segments import SegmentReader
from pend_storage.testing.domain import SCHEMA, Log, Tally, a_log, a_tally
from tests.looking import only_readable, raises_alike, state_of
from tests.security.conftest import OTHER_USER, as_other_user, theirs

__all__ = ["theirs"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
TESTS: Final = Path(__file__).parents[1]
OLD: Final = {
    1: TESTS / "migration" / "json_format_1",
    3: TESTS / "migration" / "json_format_3",
}


def opened(directory: Path, **options: Any) -> JsonStore:
    return JsonStore(SCHEMA, directory, checkpoint_interval=None, **options)


def looked_at(directory: Path, **options: Any) -> PassiveJsonStore:
    return PassiveJsonStore(SCHEMA, directory, **options)


def own(directory: Path, pattern: str) -> list[Path]:
    return sorted((directory / ".pend-storage").glob(pattern))


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A directory with a snapshot, commits after it, a role, and legacy files."""
    directory = tmp_path / "data"
    with opened(directory) as store:
        store.compare_and_set_meta(
            ROLE_META, None, RoleState(Role.PRIMARY, 3).to_meta()
        )
        store.collection(Log).put_many([a_log(f"l{n}") for n in range(30)])
        store.compact()
        for n in range(5):
            store.collection(Tally).put(a_tally(f"t{n}", n))
        store.collection(Tally).delete("t0")
    return directory


def everything(store: JsonStore | PassiveJsonStore) -> list[object]:
    """All that a reader can ask of a store."""
    logs, tallies = store.collection(Log), store.collection(Tally)
    return [
        store.role(),
        store.head(),
        store.pending(0),
        store.pending(store.head() - 2),
        store.incarnation(),
        store.meta("json.schema"),
        list(store.changes()),
        list(store.changes(store.head() - 3)),
        list(store.scan("logs", deleted=True)),
        list(store.scan("tallies", deleted=True)),
        logs.get("l3"),
        logs.count(),
        logs.count(field("id") == "l4"),
        logs.find(order_by=["-id"], limit=3).items,
        tallies.get("t0"),
        list(store.record_history("tallies", "t0")),
        store.find_commit(next(store.changes()).token or ""),
        store.file_lags(),
        store.unread_files(),
        store.collection(QuarantinedRecord).count(),
    ]


def test_it_answers_as_the_store_itself(filled: Path) -> None:
    with looked_at(filled) as reader:
        seen = everything(reader)
    with opened(filled) as store:
        assert seen == everything(store)


@needs_root
def test_nothing_changes_in_a_directory_that_may_only_be_read(theirs: Path) -> None:
    with as_other_user():
        with opened(theirs) as store:
            store.collection(Log).put_many([a_log(f"l{n}") for n in range(30)])
            store.compact()
            for name in ("a", "b", "c"):
                store.collection(Log).put(a_log(name))
        (theirs / "logs.json").write_text('{"an edit": "that waits"}')
    with only_readable(theirs, OTHER_USER), as_other_user():
        before = state_of(theirs)
        with looked_at(theirs) as reader:
            found = everything(reader)
        after = state_of(theirs)
        with pytest.raises(ConfigError, match="permission denied"):
            opened(theirs)

    assert after == before
    assert found[11] == 33  # the edit is not adopted, and is no commit


def test_an_edit_of_another_program_is_left_to_the_servers(filled: Path) -> None:
    edited = filled / "logs.json"
    edited.write_text(edited.read_text().replace("l3", "edited"))
    before = state_of(filled)

    with looked_at(filled) as reader:
        everything(reader)

    assert state_of(filled) == before


def test_it_takes_no_lock_and_starts_no_thread(filled: Path) -> None:
    threads = set(threading.enumerate())

    with opened(filled) as store, looked_at(filled) as reader:
        assert store._session.engine is not None
        with store._session.engine.exclusive() as submit:  # the commit lock is held
            everything_but_files = [reader.head(), reader.collection(Log).count()]
            submit(lambda _: None)
        assert everything_but_files[1] == 30
        assert set(threading.enumerate()) == threads


def test_no_file_is_opened_for_writing(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: list[int] = []
    real = os.open

    def watched(path: Any, flag: int, *more: Any, **options: Any) -> int:
        flags.append(flag)
        return real(path, flag, *more, **options)

    monkeypatch.setattr(os, "open", watched)
    with looked_at(filled) as reader:
        everything(reader)

    assert flags
    assert not [flag for flag in flags if flag & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)]


CHANGES: Final[dict[str, Any]] = {
    "put": lambda s: s.collection(Log).put(a_log("x")),
    "delete": lambda s: s.collection(Log).delete("l1"),
    "meta": lambda s: s.compare_and_set_meta("a", None, 1),
    "apply": lambda s: s.apply(()),
    "prune": lambda s: s.prune(3),
    "purge": lambda s: s.purge("logs", ["l1"]),
    "load_changes": lambda s: s.load_changes(()),
    "load_snapshot": lambda s: s.load_snapshot(()),
    "reserve_numbers": lambda s: s.reserve_numbers(99),
    "hold_log": lambda s: s.hold_log(lambda: None),
    "lock": lambda s: s.lock("name", 1.0).__enter__(),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_what_would_change_something_is_refused(filled: Path, change: str) -> None:
    before = state_of(filled)

    with (
        looked_at(filled) as reader,
        pytest.raises(ConfigError, match="open for reading only"),
    ):
        CHANGES[change](reader)

    assert state_of(filled) == before


def test_a_store_without_an_identity_does_not_get_one(tmp_path: Path) -> None:
    opened(tmp_path).close()

    with looked_at(tmp_path) as reader:
        assert reader.identity() == ""
    with opened(tmp_path) as store:
        made = store.identity()
    with looked_at(tmp_path) as reader:
        assert reader.identity() == made


# -- beside a writer ----------------------------------------------------------------------


def test_it_sees_every_commit_at_once_through_snapshots_and_dropped_segments(
    filled: Path,
) -> None:
    with opened(filled, retain=FORGET_ALL) as store, looked_at(filled) as reader:
        for n in range(60):
            store.collection(Log).put(a_log(f"n{n}"))
            if n % 7 == 0:
                store.compact()
            if n % 3 == 0:  # else it sleeps meanwhile
                assert reader.collection(Log).get(f"n{n}") == a_log(f"n{n}")
                assert reader.head() == store.head()
                assert reader.collection(Log).count() == 31 + n
        with pytest.raises(ChangesExpired):
            next(reader.changes())


def test_it_reads_on_while_threads_commit_and_compact(filled: Path) -> None:
    stop, failed = threading.Event(), []

    def write(name: str) -> None:
        for n in range(10_000):
            if stop.is_set():
                return
            store.collection(Log).put(a_log(f"{name}{n}"))
            if n % 20 == 0:
                store.compact()

    with opened(filled, retain=FORGET_ALL) as store, looked_at(filled) as reader:
        writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
        for writer in writers:
            writer.start()
        try:
            last = 0
            for _ in range(200):
                head, count = reader.head(), reader.collection(Log).count()
                failed += [head] if head < last else []
                assert count >= 30
                last = head
        finally:
            stop.set()
            for writer in writers:
                writer.join()
        assert not failed
        assert last > 40
        assert list(reader.scan("logs")) == list(store.scan("logs"))


def test_it_follows_to_a_directory_that_is_put_in_its_place(
    filled: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    with opened(other) as store:
        store.collection(Log).put(a_log("elsewhere"))
    with looked_at(filled) as reader:
        assert reader.collection(Log).count() == 30
        filled.rename(tmp_path / "away")
        with pytest.raises((ConfigError, StoreUnavailable)):
            reader.head()
        other.rename(filled)

        assert [row.key for row in reader.scan("logs")] == ["elsewhere"]
        assert reader.role().epoch == 0


def test_it_follows_to_an_older_state_that_is_copied_over(
    filled: Path, tmp_path: Path
) -> None:
    earlier = tmp_path / "earlier"
    shutil.copytree(filled, earlier)
    with looked_at(filled) as reader:
        with opened(filled) as store:
            store.collection(Log).put(a_log("lost"))
        assert reader.collection(Log).get("lost") is not None
        shutil.rmtree(filled / ".pend-storage")
        shutil.copytree(earlier / ".pend-storage", filled / ".pend-storage")

        assert reader.collection(Log).get("lost") is None


def test_it_follows_to_files_that_are_put_in_their_place(
    filled: Path, tmp_path: Path
) -> None:
    earlier = Path(shutil.copytree(filled, tmp_path / "earlier"))
    with looked_at(filled) as reader:
        with opened(filled) as store:
            store.collection(Log).put(a_log("lost"))
        assert reader.collection(Log).get("lost") is not None
        for path in (earlier / ".pend-storage").iterdir():
            if path.is_file():  # one by one, as a program that synchronises folders
                path.replace(filled / ".pend-storage" / path.name)

        assert reader.collection(Log).get("lost") is None


def test_a_forked_child_reads_by_itself(filled: Path) -> None:
    with looked_at(filled) as reader:
        assert reader.collection(Log).count() == 30
        child = os.fork()
        if child == 0:
            os._exit(0 if reader.collection(Log).count() == 30 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert reader.collection(Log).count() == 30


def test_a_closed_one_says_so(filled: Path) -> None:
    reader = looked_at(filled)
    reader.close()
    reader.close()

    with pytest.raises(StoreUnavailable, match="closed"):
        reader.head()
    with pytest.raises(StoreUnavailable, match="closed"):
        reader.collection(Log).get("l1")


# -- what a crash leaves, and damage ------------------------------------------------------


def cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + size)


def test_a_torn_tail_is_left_to_the_next_server(filled: Path) -> None:
    journal = own(filled, "journal-*")[-1]
    journal.write_bytes(journal.read_bytes() + b"0000002a 8c7dd9")
    before = state_of(filled)

    with looked_at(filled) as reader:
        seen = everything(reader)
    assert state_of(filled) == before
    with opened(filled) as store:
        assert seen == everything(store)


def test_a_frame_that_was_never_published_is_not_shown(filled: Path) -> None:
    end = own(filled, "end")[0]
    published = end.read_bytes()
    with opened(filled) as store:
        head = store.head()
        store.collection(Log).put(a_log("not acknowledged"))
    end.write_bytes(published)  # its writer died before it had published

    with looked_at(filled) as reader:
        assert reader.head() == head
        assert reader.collection(Log).get("not acknowledged") is None
    with opened(filled) as store:  # the next process that commits recovers it
        assert store.collection(Log).get("not acknowledged") is not None


@pytest.mark.parametrize("damage", ["missing", "torn", "empty"])
def test_without_the_end_file_every_whole_frame_is_shown(
    filled: Path, damage: str
) -> None:
    with opened(filled) as store:
        expected = list(store.scan("logs")), store.head()
    end = own(filled, "end")[0]
    raw = end.read_bytes()
    end.unlink()
    if damage != "missing":
        end.write_bytes(b"" if damage == "empty" else raw[:10] + bytes(10))
    journal = own(filled, "journal-*")[-1]
    journal.write_bytes(journal.read_bytes() + b"0000002a 8c7dd9")
    before = state_of(filled)

    with looked_at(filled) as reader:
        assert (list(reader.scan("logs")), reader.head()) == expected
    assert state_of(filled) == before


def damaged_frame(directory: Path) -> None:
    path = own(directory, "journal-*")[-1]
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x40
    path.write_bytes(raw)


def lost_end(directory: Path) -> None:
    cut(own(directory, "journal-*")[-1], -20)


def damaged_rows(directory: Path) -> None:
    path = own(directory, "snapshot-*")[-1]
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'"l7"', b'"x7"', 1))


def no_snapshot(directory: Path) -> None:
    for path in own(directory, "snapshot-*"):
        path.unlink()


def no_format(directory: Path) -> None:
    own(directory, "format")[0].unlink()


@pytest.mark.parametrize(
    "damage", [damaged_frame, lost_end, damaged_rows, no_snapshot, no_format]
)
def test_damage_is_the_error_of_the_store_itself(filled: Path, damage: Any) -> None:
    damage(filled)
    before = state_of(filled)

    with pytest.raises(CorruptFile):
        looked_at(filled)
    assert state_of(filled) == before
    assert raises_alike(lambda: looked_at(filled), lambda: opened(filled))


def test_a_newer_format_is_refused(filled: Path) -> None:
    path = own(filled, "format")[0]
    path.write_text(json.dumps({"format": 99, "id": "x"}))

    with pytest.raises(SchemaOutOfDate, match="newer version"):
        looked_at(filled)


@pytest.mark.parametrize("version", sorted(OLD))
def test_directories_of_older_versions_are_read_as_they_are(
    tmp_path: Path, version: int
) -> None:
    place = Path(shutil.copytree(OLD[version], tmp_path / "data"))
    before = state_of(place)

    with looked_at(place) as reader:
        rows = list(reader.scan("logs", deleted=True)), list(reader.scan("tallies"))
        log = list(reader.changes())
    assert state_of(place) == before

    with opened(place) as store:
        assert rows == (
            list(store.scan("logs", deleted=True)),
            list(store.scan("tallies")),
        )
        assert log == list(store.changes())[: len(log)]
    assert log


# -- what is refused ----------------------------------------------------------------------


def test_a_directory_without_a_store_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "logs.json").write_text("{}")
    before = state_of(tmp_path)

    with pytest.raises(ConfigError, match="has no store yet"):
        looked_at(tmp_path)
    with pytest.raises(ConfigError, match="has no store yet"):
        looked_at(tmp_path / "missing")
    assert state_of(tmp_path) == before


@needs_root
def test_root_does_not_read_the_directory_of_somebody_else(theirs: Path) -> None:
    with as_other_user():
        opened(theirs).close()

    with pytest.raises(ConfigError, match="this process runs as root"):
        looked_at(theirs)
    with looked_at(theirs, allow_foreign_owner=True) as reader:
        assert reader.head() == 0


@needs_root
def test_a_planted_link_is_not_followed(theirs: Path, tmp_path: Path) -> None:
    with as_other_user():
        with opened(theirs) as store:
            store.collection(Log).put(a_log("a"))
        journal = own(theirs, "journal-*")[-1]
        shutil.copy(journal, theirs / "copy")
        journal.unlink()
        journal.symlink_to(theirs / "copy")

    with pytest.raises(ConfigError, match="symbolic link"):
        looked_at(theirs, allow_foreign_owner=True)


def test_another_schema_is_refused_as_by_the_store(filled: Path) -> None:
    import pend_storage as ps

    other = ps.Schema([ps.collection("logs", Tally, key="name")])

    assert raises_alike(
        lambda: PassiveJsonStore(other, filled),
        lambda: JsonStore(other, filled, checkpoint_interval=None),
    )


# -- two tiers, and what a look costs -----------------------------------------------------


def test_facts_need_no_row_of_the_users_collections(filled: Path) -> None:
    with looked_at(filled) as reader:
        reader.role(), reader.head(), reader.pending(0), reader.meta("x")
        reader.file_lags(), reader.unread_files(), list(reader.changes(30))
        reader.collection(QuarantinedRecord).count()

        assert reader._second is None
        assert reader._first is not None
        state = reader._first.current().state
        assert isinstance(state, SparseState)
        for name in ("logs", "tallies"):
            with pytest.raises(LookupError):
                state.table(name)
            rows = state.tables[name].__dict__.get("rows")
            assert not rows  # still on the disk, or never there
        reader.collection(Log).get("l1")
        assert reader._second is not None


def read_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the bytes of journals that are decoded from now on."""
    found: list[int] = []
    real = SegmentReader._raw_payloads

    def counted(self: SegmentReader, limit: int | None) -> Iterator[bytes]:
        for payload in real(self, limit):
            found.append(len(payload))
            yield payload

    monkeypatch.setattr(SegmentReader, "_raw_payloads", counted)
    return found


def test_a_look_reads_only_what_is_new_however_much_is_pending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as store:
        for start in range(0, 30_000, 500):
            logs = [a_log(f"l{n}") for n in range(start, start + 500)]
            batches = [store.schema.batch([store.schema.put(Log, x)]) for x in logs]
            store.commit_each(batches)
        mark = next(store.changes()).sequence
        with looked_at(tmp_path) as reader:
            first = reader.pending(mark), reader.pending(mark - 1)
            read = read_bytes(monkeypatch)
            for _ in range(5):
                assert (reader.pending(mark), reader.pending(mark - 1)) == first
                reader.head(), reader.role(), reader.file_lags()
            store.collection(Log).put(a_log("one more"))
            assert reader.pending(mark).commits == first[0].commits + 1

        assert first[0].commits == 29_999
        assert len(read) < 40  # the first frames of segments, and the new one


_FACTS: Final = """
import re, sys
from pathlib import Path
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.stores.json import JsonStore, PassiveJsonStore

def now(name="VmRSS"):
    status = Path("/proc/self/status").read_text()
    return int(re.search(name + r":\\s+(\\d+) kB", status)[1]) * 1024

def look(store):
    return (store.role(), store.head(), store.pending(max(0, store.head() - 10)),
            store.file_lags(), store.unread_files(), store.meta("shared"))

kind = {"passive": PassiveJsonStore, "active": JsonStore}[sys.argv[1]]
options = {} if sys.argv[1] == "passive" else {"checkpoint_interval": None}
small = kind(SCHEMA, sys.argv[3], layouts=LAYOUTS, **options)
look(small); small.close()
before = now()
store = kind(SCHEMA, sys.argv[2], layouts=LAYOUTS, **options)
look(store)
print(now() - before)
"""


_MAKE: Final = """
import sys
from pend_storage.pend import LAYOUTS, SCHEMA, BlockchainEvent
from pend_storage.stores.json import JsonStore

directory, count = sys.argv[1], int(sys.argv[2])
with JsonStore(SCHEMA, directory, layouts=LAYOUTS, checkpoint_interval=None) as store:
    events = store.collection(BlockchainEvent)
    for start in range(0, count, 1000):
        events.put_many(
            BlockchainEvent(source="chain", event_type="transfer", raw_data="x" * 200)
            for _ in range(min(1000, count - start))
        )
    store.compact()
    for _ in range(20):
        events.put(BlockchainEvent(source="chain", event_type="transfer"))
"""


def test_six_numbers_of_a_large_directory_cost_little_memory(tmp_path: Path) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    for place, count in ((large, "100000"), (small, "10")):
        subprocess.run(
            [sys.executable, "-c", _MAKE, str(place), count], check=True, timeout=300
        )

    def cost(kind: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _FACTS, kind, str(large), str(small)],
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        return int(done.stdout)

    passive = cost("passive")

    assert passive < 16 << 20
    assert passive < cost("active") / 2


@pytest.mark.parametrize("retain", [KEEP_A_WEEK, FORGET_ALL], ids=["kept", "forgotten"])
def test_what_is_pending_is_the_same_from_every_place(
    tmp_path: Path, retain: Any
) -> None:
    with opened(tmp_path, retain=retain) as store:
        for n in range(12):
            store.collection(Log).put_many([a_log(f"{n}"), a_log(f"x{n}")])
            if n % 5 == 4:
                store.compact()
    with opened(tmp_path) as store, looked_at(tmp_path) as reader:
        for forgets in (False, True):
            if forgets:  # as a reader whose memory does not reach back so far
                for each in (store._session.opened(), reader._facts()):
                    with each.live() as live:
                        live.history.clear(live.log_end)
            for after in reversed(range(store.head() + 1)):
                try:
                    expected = store.pending(after)
                except ChangesExpired:
                    with pytest.raises(ChangesExpired):
                        reader.pending(after)
                else:
                    assert reader.pending(after) == expected


def test_a_file_that_is_behind_is_measured_as_by_the_store(tmp_path: Path) -> None:
    with opened(tmp_path) as store, looked_at(tmp_path) as reader:
        store.collection(Log).put_many([a_log("a"), a_log("b")])
        store.collection(Tally).put(a_tally("t", 1))
        theirs, mine = store.file_lags(), reader.file_lags()
        assert [(x.file, x.records) for x in mine] == [
            (x.file, x.records) for x in theirs
        ]
        assert len(mine) == 2
        store.checkpoint()
        reader._lags._known.clear()  # else it is remembered for some seconds
        assert reader.file_lags() == store.file_lags() == ()
