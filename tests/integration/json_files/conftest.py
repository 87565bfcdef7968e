"""A small Pend server's directory, a store over it, and old code that edits it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pend_storage.events import Event
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.stores.json import JsonStore
from tests.ages import age

WALLETS = "wallet-db.json"
EVENTS = "explorer-data/transactions-log.json"


class Editor:
    """Old code: reads a file, changes it, writes it whole."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def load(self, file: str) -> Any:
        return json.loads((self.directory / file).read_text())

    def save(self, file: str, value: Any, *, indent: int | None = 2) -> None:
        self.put(file, json.dumps(value, indent=indent))

    def put(self, file: str, text: str, *, renamed: bool = False) -> None:
        path = self.directory / file
        if renamed:
            new = path.with_suffix(".tmp")
            new.write_text(text)
            new.rename(path)
        else:
            path.write_text(text)
        age(path)


@pytest.fixture
def events() -> list[Event]:
    """Events of the store."""
    return []


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Five wallets, and five events, the newest first; in the hand of the server."""
    (tmp_path / "explorer-data").mkdir()
    old = Editor(tmp_path)
    old.save(WALLETS, {f"0x{n:064x}": f"0x{n:040x}" for n in range(1, 6)})
    old.save(
        EVENTS,
        [
            {
                "id": n,
                "type": "egp_minted",
                "timestamp": f"2025-06-19T07:58:{n:02}.380Z",
                "amount": "250",
            }
            for n in range(5, 0, -1)
        ],
    )
    return tmp_path


@pytest.fixture
def old(directory: Path) -> Editor:
    return Editor(directory)


@pytest.fixture
def open_store(
    directory: Path, events: list[Event]
) -> Iterator[Callable[..., JsonStore]]:
    opened: list[JsonStore] = []

    def open_it(**settings: Any) -> JsonStore:
        settings = {"checkpoint_interval": None, "hook": events.append} | settings
        opened.append(JsonStore(SCHEMA, directory, layouts=LAYOUTS, **settings))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., JsonStore]) -> JsonStore:
    return open_store()


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that every user may enter."""
    place = Path(tempfile.mkdtemp(prefix="pend-json-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)
