"""Claims of the how-tos about the example servers hold."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Final

import pytest

from tests.examples.servers import FASTAPI, STEPS, running

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ("flask-server.md", "fastapi-server.md")
DECORATED: Final = re.compile(r'^@app\.(get|post|put)\("([^"]+)"\)$', re.MULTILINE)
ROUTE: Final = re.compile(
    r"^\| `(GET|POST|PUT) (/\S+)` \| .*? \|(?: (.*?) \|)?$", re.MULTILINE
)


def page(name: str) -> str:
    return (ROOT / "docs" / "how-to" / name).read_text(encoding="utf-8")


def test_the_diff_that_is_shown_is_the_difference() -> None:
    (shown,) = re.findall(
        r"^```diff\n(.*?)^```$", page(PAGES[0]), re.MULTILINE | re.DOTALL
    )
    before, after = (path.read_text().splitlines() for path in STEPS[:2])

    found = list(difflib.unified_diff(before, after, lineterm="", n=1))

    changes = [line for line in found[3:] if line[0] in "+-"]
    assert [line for line in shown.splitlines() if line[0] in "+-"] == changes
    for line in shown.splitlines():
        assert line[1:] in (after if line[0] == "+" else before)


@pytest.mark.parametrize("name", PAGES)
def test_every_file_that_is_named_is_there(name: str) -> None:
    text = page(name)
    (folder,) = set(re.findall(r"docs/examples/\w+_server\b", text))

    for path in re.findall(r"docs/examples/[\w./]+", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"`(\w+\.py)`", text):
        assert path == "gunicorn.conf.py" or (ROOT / folder / path).exists(), path


@pytest.mark.parametrize("number", range(4))
def test_the_routes_of_each_flask_step(number: int) -> None:
    told = {
        (method, path)
        for method, path, steps in ROUTE.findall(page(PAGES[0]))
        if steps == "all" or str(number) in steps
    }

    found = {
        (method.upper(), path.replace("<phone_hash>", "HASH"))
        for method, path in DECORATED.findall(STEPS[number].read_text())
    }

    assert found == told


def test_the_routes_of_the_fastapi_server() -> None:
    with running(FASTAPI, None, "--pages") as client:
        paths = client.get("/openapi.json").json()["paths"]

    found = {
        (method.upper(), path.replace("{phone_hash}", "HASH"))
        for path, methods in paths.items()
        for method in methods
    }

    assert found == {(m, path) for m, path, _ in ROUTE.findall(page(PAGES[1]))}
