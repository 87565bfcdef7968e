"""Fuzzed legacy files: adopted, edited while a store is open, and nothing is lost.

The promise is that every byte is in a record or in quarantine, and that a file that was
only read stays as it is. The mutations are seeded, so a failure can be repeated.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pend_storage.errors import PendStorageError
from pend_storage.pend import LAYOUTS
from pend_storage.pend import SCHEMA as PEND
from pend_storage.records import QuarantinedRecord
from pend_storage.stores.json import JsonStore

IDENTITIES = "explorer-data/identity-map.json"
WALLETS = "wallet-db.json"
FILES: dict[str, Any] = {
    WALLETS: {f"0x{n:064x}": f"0x{n:040x}" for n in range(6)},
    IDENTITIES: {"a": 1, "b": {"deep": [1, 2.5, None, "x"]}, "é": "\u2028", "c": []},
}
PIECES = [
    b"",
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b'"',
    b"\\",
    b"\\ud800",
    b"\\u0000",
    b"{",
    b"[",
    b"}",
    b",",
    b":",
    b"NaN",
    b"1e999",
    b"-0.0",
    b"9" * 5_000,
    b"[" * 3_000,
    b'"a":1,',
    b'"a":1,"a":2,',
    b"null",
    b"//x\n",
    b"\r\n",
    b"x" * 70_000,
]


def mutated(chance: random.Random, content: bytes) -> bytes:
    """Return the content with pieces put in, taken out, doubled or replaced."""
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(content) + 1)
        end = min(len(content), start + chance.choice([0, 0, 1, 2, 8, 64]))
        piece = chance.choice([*PIECES, content[start:end] * 2])
        content = content[:start] + piece + content[end:]
    return content


def write(path: Path, content: bytes) -> None:
    """Write a file as another program does, some time ago."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(0, path.stat().st_mtime_ns - 2_000_000_000))


def pairs(text: bytes) -> list[tuple[str, Any]] | None:
    """Return the members that Python reads, the last of each name; None: it cannot."""
    try:
        # As the store does: a control character in a text is read as it stands.
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    return list(value.items()) if isinstance(value, dict) else None


def require_all(store: JsonStore, path: Path, file: str, content: bytes) -> None:
    """Require that a store has all of a file: in the view, or in quarantine."""
    assert path.read_bytes() == content
    aside = [r for r in store.collection(QuarantinedRecord).scan() if r.file == file]
    if any(record.raw == content for record in aside):
        return
    members = pairs(content)
    if members is None:
        # Python's parser refuses the file, and ours has divided it: records that are not
        # JSON by themselves wait in quarantine, each with its text.
        assert aside
        return
    view = store.legacy(file)
    assert list(view) == [name for name, _ in members]
    texts = b"".join(record.raw for record in aside)
    for name, value in members:
        try:
            found = view[name]
        except PendStorageError:
            assert json.dumps(name)[1:-1].encode() in texts or name.encode() in texts
            continue
        assert repr(found) == repr(value) or found == value


def adopt(directory: Path, chance: random.Random) -> None:
    """Adopt mutated files, open them again, edit them while open, and open them again."""
    contents = {
        file: mutated(
            chance, json.dumps(value, indent=chance.choice([None, 2])).encode()
        )
        for file, value in FILES.items()
    }
    for file, content in contents.items():
        write(directory / file, content)
    for _ in range(2):
        with JsonStore(PEND, directory, layouts=LAYOUTS) as store:
            store.checkpoint()
            for file, content in contents.items():
                require_all(store, directory / file, file, content)
    with JsonStore(PEND, directory, layouts=LAYOUTS) as store:
        file = chance.choice([*FILES])
        for _ in range(3):
            content = mutated(chance, json.dumps(FILES[file]).encode())
            write(directory / file, content)
            store.checkpoint()
            require_all(store, directory / file, file, content)
    with JsonStore(PEND, directory, layouts=LAYOUTS) as store:
        require_all(store, directory / file, file, content)


def directories(tmp_path: Path, count: int) -> Iterator[Path]:
    for number in range(count):
        path = tmp_path / str(number)
        path.mkdir()
        yield path


@pytest.mark.parametrize("seed", range(3))
def test_mutated_files_lose_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for directory in directories(tmp_path, 5):
        adopt(directory, chance)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(100, 130))
def test_many_mutated_files_lose_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for directory in directories(tmp_path, 40):
        adopt(directory, chance)
