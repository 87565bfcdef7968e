"""Files of the console's page: what they weigh, where they come from, what they never do."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pend_storage.console._actions import ACTIONS
from tests.browser.pictures import LARGEST, NAMES
from tests.browser.staged import STATIC

VENDOR: Final = STATIC / "vendor"
DOCS: Final = Path(__file__).parents[2] / "docs"
FIRST_PICTURE: Final = 15_000
WITH_CHARTS: Final = 45_000
"""Bytes, each file compressed by itself."""
_IMPORT: Final = re.compile(r'^(?:import|export) [^;"]*from "([^"]+)"', re.MULTILINE)


def imported(module: Path, known: frozenset[Path] = frozenset()) -> frozenset[Path]:
    """A module, and all that it imports before it runs."""
    found = known | {module}
    if module.parent == VENDOR:
        return found
    for name in _IMPORT.findall(module.read_text()):
        path = (module.parent / name).resolve()
        if path not in found:
            found |= imported(path, found)
    return found


def weight(files: Iterable[Path]) -> int:
    return sum(len(gzip.compress(file.read_bytes(), mtime=0)) for file in files)


def first_picture() -> frozenset[Path]:
    names = ("index.html", "base.css", "theme.js")
    return imported(STATIC / "app.js") | {STATIC / name for name in names}


def test_the_first_picture_is_light() -> None:
    assert weight(first_picture()) <= FIRST_PICTURE


def test_charts_are_light_and_load_their_library_only_when_open() -> None:
    library = {VENDOR / "uPlot.iife.min.js", VENDOR / "uPlot.min.css"}
    assert not library & first_picture()
    screen = imported(STATIC / "charts.js")
    every = first_picture() | screen | library | {STATIC / "screens.css"}
    assert weight(every) <= WITH_CHARTS


def test_what_the_entry_page_names_is_there_and_loaded_first() -> None:
    page = (STATIC / "index.html").read_text()
    named = re.findall(r'(?:href|src)="static/([^"]+)"', page)
    assert all((STATIC / name).is_file() for name in named)
    preloaded = set(re.findall(r'modulepreload" href="static/([^"]+)"', page))
    modules = {str(p.relative_to(STATIC)) for p in imported(STATIC / "app.js")}
    assert preloaded == modules - {"app.js"}


def test_vendored_files_are_those_that_were_recorded() -> None:
    listed = json.loads((VENDOR / "vendor.json").read_text())
    files = {
        name: facts
        for package in listed.values()
        for name, facts in package["files"].items()
    }
    for name, facts in files.items():
        digest = hashlib.sha256((VENDOR / name).read_bytes()).hexdigest()
        assert digest == facts["sha256"], name
    present = {file.name for file in VENDOR.iterdir()}
    assert present == set(files) | {"vendor.json", "README.txt"}
    for package, facts in listed.items():
        assert any(name.endswith(".LICENSE") for name in facts["files"]), package


def test_a_strict_policy_can_hold() -> None:
    """No inline script or style, no markup made of text, no code made of text."""
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<script>|<style|style=|\son\w+=", page)
    for module in STATIC.glob("*.js"):
        text = module.read_text()
        ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|style=\"|DOMParser"
        assert not re.search(ways, text), module.name
        assert not re.search(r"https?://", text), f"{module.name} names another server"


def test_the_page_offers_every_action_of_the_server_by_its_name() -> None:
    used = {
        name
        for module in STATIC.glob("*.js")
        for way in (r'name="([a-z-]+)" label', r'(?:find|post|ask|act)\("([a-z-]+)"')
        for name in re.findall(way, module.read_text())
    }
    assert used == set(ACTIONS)


def test_every_module_stays_short() -> None:
    for module in [*STATIC.glob("*.js"), *STATIC.glob("*.css")]:
        assert len(module.read_text().splitlines()) <= 400, module.name


def test_the_page_about_the_console_shows_each_screen() -> None:
    page = (DOCS / "how-to" / "console.md").read_text()
    shown = set(re.findall(r"\(\.\./console/([a-z-]+\.png)\)", page))
    taken = {file.name for file in (DOCS / "console").glob("*.png")}
    assert taken == {f"{n}-{scheme}.png" for n in NAMES for scheme in ("light", "dark")}
    assert shown <= taken
    assert {name.rpartition("-")[0] for name in shown} == set(NAMES)
    for file in (DOCS / "console").glob("*.png"):
        assert file.stat().st_size <= LARGEST, file.name
