"""Names on the page of mutations exist."""

from __future__ import annotations

import re
from pathlib import Path

import pend_storage.testing

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/mutations.md").read_text()


def test_every_test_that_the_page_names_exists() -> None:
    folders = (ROOT / "tests", Path(str(pend_storage.testing.__file__)).parent)
    defined = {
        name
        for folder in folders
        for path in folder.rglob("*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text())
    }
    named = set(re.findall(r"`(test_\w+)`", PAGE))

    assert len(named) > 40
    assert named <= defined


def test_every_place_that_the_page_names_exists() -> None:
    rows = re.findall(r"\| `(\w[\w/]+\.py)`, ([^|]+) \|", PAGE)

    assert len(rows) > 30
    for file, places in rows:
        folder = ROOT if file.startswith("tests/") else ROOT / "pend_storage"
        text = (folder / file).read_text()
        for place in re.findall(r"`([\w.]+)`", places):
            name = place.rpartition(".")[2]
            assert re.search(rf"(def |^){name}\b", text, re.MULTILINE), (file, place)
