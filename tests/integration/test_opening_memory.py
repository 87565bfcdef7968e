"""Memory of opening a JSON directory, and the rows that wait on disk meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pend_storage._files.directory import Directory
from pend_storage.errors import CorruptFile
from pend_storage.stores.json import JsonStore
from pend_storage.stores.json._legacy_sync.row_spill import RowSpill, SpilledRows
from pend_storage.testing.domain import SCHEMA, Log, a_log

FILE = "explorer-data/identity-map.json"
RECORDS = 45_000
_OPEN = """
import re, sys
from pathlib import Path
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.stores.json import JsonStore

def peak():
    # Not ru_maxrss: that begins with what the parent process had.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024

def opened(directory):
    return JsonStore(SCHEMA, directory, layouts=LAYOUTS, checkpoint_interval=None)

opened(sys.argv[2]).close()
before = peak()
with opened(sys.argv[1]):
    print(peak() - before)
"""


def peak_of_opening(directory: Path) -> int:
    """Bytes that a process of its own holds at most, beside the library itself."""
    small = directory.with_name("small")
    (small / FILE).parent.mkdir(parents=True, exist_ok=True)
    (small / FILE).write_text('{"a": {"b": "c"}}')
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, str(directory), str(small)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return int(done.stdout)


def test_opening_holds_a_few_times_the_file_and_later_next_to_nothing(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "large"
    path = directory / FILE
    path.parent.mkdir(parents=True)
    members = {
        f"0x{n * 104_729:064x}": {"address": f"0x{n * 7919:040x}", "name": f"user {n}"}
        for n in range(RECORDS)
    }
    path.write_text(json.dumps(members))
    size = path.stat().st_size
    assert size > 6_500_000

    first, second = peak_of_opening(directory), peak_of_opening(directory)

    # A text of the file is a row of nearly three times its size: all of them in memory,
    # with the text, the views and the snapshot, were eight times the file and more.
    assert first / size < 6
    assert second / size < 1
    assert not [*directory.glob("**/tmp*")]


def test_rows_are_found_though_their_snapshot_was_replaced_meanwhile(
    tmp_path: Path,
) -> None:
    with JsonStore(SCHEMA, tmp_path) as store:
        store.collection(Log).put_many([a_log(f"l{n}", "x" * 99) for n in range(20)])
        store.compact()
    with JsonStore(SCHEMA, tmp_path) as store:
        for path in (tmp_path / ".pend-storage").glob("snapshot-*"):
            path.rename(tmp_path / "gone")

        assert store.collection(Log).count() == 20

        (tmp_path / "gone").rename(path)


def test_a_snapshot_that_is_damaged_after_opening_is_never_taken_for_rows(
    tmp_path: Path,
) -> None:
    with JsonStore(SCHEMA, tmp_path) as store:
        store.collection(Log).put_many([a_log(f"l{n}", "x" * 99) for n in range(20)])
        store.compact()
    (path,) = (tmp_path / ".pend-storage").glob("snapshot-*")
    whole = path.read_bytes()
    with JsonStore(SCHEMA, tmp_path) as store:
        path.write_bytes(whole.replace(b"x" * 99, b"y" * 99, 1))

        with pytest.raises(
            CorruptFile, match="the checksum of a block of rows is wrong"
        ):
            store.collection(Log).count()

        path.write_bytes(whole)
        assert store.collection(Log).count() == 20


def test_texts_come_back_from_the_spool_by_place_and_in_order(tmp_path: Path) -> None:
    spool = RowSpill(Directory(tmp_path))
    texts = [bytes([n % 251]) * (n * 977 % 70_000) for n in range(200)]
    texts.append(b"z" * 3_000_000)
    places = [spool.add(text) for text in texts]

    assert [spool.at(place) for place in places] == texts
    assert list(spool.in_order(iter(places))) == texts
    assert list(spool.in_order(reversed(places))) == texts[::-1]
    assert [*tmp_path.iterdir()] == []
    spool.close()


def test_spooled_rows_are_looked_at_as_rows_in_memory_are(tmp_path: Path) -> None:
    spool = RowSpill(Directory(tmp_path))
    rows = SpilledRows(spool, 7)
    rows["a"], rows["b"], rows["c"] = b"one", b"two", b"three"
    rows["a"] = b"four"
    rows.pop("b")

    assert dict(rows.items()) == {"a": (7, b"four"), "c": (7, b"three")}
    assert (rows.get("a"), rows.get("b"), len(rows)) == ((7, b"four"), None, 2)
    assert [*rows] == [*rows.keys()] == ["a", "c"]
    assert "b" not in rows
    place = rows.place("a", b"four")
    assert rows.place("a", b"four") == place != rows.place("a", b"five")
    assert spool.at(rows.place("b", b"six")) == b"six"
    spool.close()
