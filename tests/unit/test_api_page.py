"""The reference: every public name is on the page of the API, or on that of errors."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Final

import pytest

import pend_storage as ps

REFERENCE: Final = Path(__file__).parents[2] / "docs/reference"
PUBLIC: Final[list[str]] = importlib.import_module("pend_storage").__all__
PAGES: Final = (REFERENCE / "api.md", REFERENCE / "errors.md")
PACKAGES: Final = {
    "pend_storage",
    "pend_storage.flags",
    "pend_storage.instrumentation",
    "pend_storage.testing",
}
DIRECTIVE: Final = re.compile(
    r"^\.\. auto(class|function|exception|data|module):: ([\w.]+)$"
    r"(?:\n   :members: ?(.*))?",
    re.MULTILINE,
)


def documented() -> set[str]:
    """The names, without their modules, that the pages document."""
    found: set[str] = set()
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for kind, path, members in DIRECTIVE.findall(text):
        if kind == "module" and not members:
            public = getattr(importlib.import_module(path), "__all__")  # noqa: B009
            found |= set(public)
        elif kind == "module":
            found |= {name.strip() for name in members.split(",")}
        else:
            found.add(path.rpartition(".")[2])
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_on_the_page(name: str) -> None:
    assert name in documented()


def test_every_public_name_is_there() -> None:
    for name in PUBLIC:
        assert getattr(ps, name) is not None


@pytest.mark.parametrize(
    ("package", "name"),
    [
        path.rpartition(".")[::2]
        for kind, path, _ in DIRECTIVE.findall(PAGES[0].read_text(encoding="utf-8"))
    ],
)
def test_every_path_on_the_page_is_public(package: str, name: str) -> None:
    public = importlib.import_module(package)

    assert package in PACKAGES
    assert name in public.__all__
    assert hasattr(public, name)


def test_a_name_that_is_missing_would_be_noticed() -> None:
    assert "NobodyHasThis" not in documented()
