"""Write ``docs/contributing/map.md``: each package and module, with its one sentence.

The sentence is the first paragraph of the module's docstring, so the page cannot say
anything else than the code. ``tests/unit/test_map.py`` fails when it is out of date::

    python docs/package_map.py
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = ROOT / "pend_storage"
PAGE: Final = ROOT / "docs/contributing/map.md"

_HEAD: Final = """\
# Map

Every package and module of `pend_storage`, with the first sentence of its docstring. Names that
begin with an underscore are private. Which packages may import which stands in `pyproject.toml`,
under `[tool.importlinter]`; the words are those of [the glossary](../reference/glossary.md).

This page is written by `python docs/package_map.py`; a test compares it with the code.
"""
_ROLE: Final = re.compile(r":\w+:`[~.]*([^`]+)`")


def summary(path: Path) -> str:
    """Return the first paragraph of a module's docstring, as Markdown on one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line = " ".join(text.partition("\n\n")[0].split())
    return _ROLE.sub(r"`\1`", line).replace("``", "`").replace("|", "\\|")


def packages() -> list[Path]:
    """Return the folders that hold modules, outer ones first."""
    return sorted({path.parent for path in PACKAGE.rglob("*.py")})


def modules(package: Path) -> list[Path]:
    """Return the modules that stand in the folder of a package, without its own."""
    return sorted(path for path in package.glob("*.py") if path.name != "__init__.py")


def render() -> str:
    """Return the text of the page."""
    return "\n".join([_HEAD, *(part for each in packages() for part in _section(each))])


def _section(package: Path) -> Iterator[str]:
    yield f"## `{package.relative_to(ROOT)}/`\n"
    if (package / "__init__.py").exists():  # scripts of Alembic are no package
        yield f"{summary(package / '__init__.py')}\n"
    if found := modules(package):
        yield "| module | what it is |\n|---|---|"
        yield from (f"| `{each.name}` | {summary(each)} |" for each in found)
        yield ""


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
