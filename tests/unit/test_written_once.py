"""Names and conditions that several packages need stand in one module."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pend_storage as ps
from pend_storage.stores.json import OWN_DIRECTORY, has_store

PACKAGE = Path(str(ps.__file__)).parent


@pytest.mark.parametrize(
    "text",
    [
        r'"\.pend-storage"',
        r'field\("status"\) == "waiting"',
        r'\bstatus [!=]= (_?WAITING|"waiting")',
        r"pip install 'pend_storage\[",
        r"os\.register_at_fork\(",
    ],
)
def test_it_is_written_once(text: str) -> None:
    found = [
        path
        for path in PACKAGE.rglob("*.py")
        if re.search(text, path.read_text(encoding="utf-8"), re.MULTILINE)
    ]

    assert len(found) == 1, found


def test_a_directory_has_a_store_once_it_was_opened(tmp_path: Path) -> None:
    before = has_store(tmp_path)
    ps.JsonStore(ps.Schema([]), tmp_path).close()

    assert (before, has_store(tmp_path)) == (False, True)
    assert (tmp_path / OWN_DIRECTORY).is_dir()
