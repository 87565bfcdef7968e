"""The map of the packages and modules says what the code says, and leaves nothing out."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "package_map", ROOT / "docs/package_map.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


package_map = _load()
MODULES = [
    path
    for path in sorted((ROOT / "pend_storage").rglob("*.py"))
    if "__pycache__" not in path.parts
]


def test_the_page_is_what_the_docstrings_say() -> None:
    assert package_map.PAGE.read_text(encoding="utf-8") == package_map.render(), (
        "docs/contributing/map.md is out of date: run `python docs/package_map.py`"
    )


def test_every_module_is_on_the_page() -> None:
    text = package_map.render()

    for path in MODULES:
        head = f"## `{path.parent.relative_to(ROOT)}/`\n"
        assert head in text
        if path.name != "__init__.py":
            section = text.partition(head)[2].partition("\n## ")[0]
            assert f"| `{path.name}` |" in section


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_has_a_sentence(path: Path) -> None:
    sentence = package_map.summary(path)

    assert sentence, "a module says in the first line of its docstring what it is"
    assert len(sentence) <= 240


def test_markup_of_docstrings_becomes_markdown(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        '"""Read ``a|b`` by :class:`~pend_storage.Store`,\non one line.\n\nMore."""\n'
    )

    assert package_map.summary(module) == (
        "Read `a\\|b` by `pend_storage.Store`, on one line."
    )
