"""Every file is opened, created, renamed, removed and chmodded in one package."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import pend_storage

ROOT: Final = Path(pend_storage.__file__).parent

FOLDERS: Final = {
    "_files": "the door",
    "testing": "test kits: in directories that the tests have made",
    "sample_data": "writes sample files into a directory that the user names",
    "demo": "works in a temporary directory of its own",
}
FILES: Final = {
    "_lazy_exports.py": "reads the stubs of the package itself",
    "cli/_app.py": "opens the null device, for output after a closed pipe",
    "cli/_inspect.py": "a temporary directory of its own",
    "cli/_quarantine.py": "reads a file that the user names on the command line",
    "console/_pages.py": "reads the files of the page from the package itself",
    "console/sample.py": "works in a temporary directory of its own",
    "operations/backup/diff.py": "a temporary directory of its own",
    "operations/backup/physical.py": "a temporary directory of its own",
    "operations/backup/scratch.py": "asks where temporary files are kept",
    "operations/doctor/_directory.py": "reads the table of mounts of the system",
    "operations/inspect.py": "creates files that the user names, and a temporary directory",
    "operations/migrate_trial.py": "a temporary directory of its own",
    "stores/postgres/_named_locks.py": "opens the null device in place of a connection",
    "validation/_render_check.py": "a temporary file without a name",
}
"""Modules that open files by themselves, and why that is right."""
OS: Final = frozenset(
    [
        "open",
        "chmod",
        "chown",
        "lchown",
        "fchmod",
        "fchown",
        "rename",
        "renames",
        "replace",
        "link",
        "symlink",
        "mkdir",
        "makedirs",
        "mkfifo",
        "mknod",
        "unlink",
        "remove",
        "rmdir",
        "removedirs",
        "truncate",
        "setxattr",
    ]
)
SHUTIL: Final = frozenset(
    [
        "copy",
        "copy2",
        "copyfile",
        "copymode",
        "copystat",
        "copytree",
        "move",
        "rmtree",
        "chown",
    ]
)
MODULES: Final = {"os": OS, "shutil": SHUTIL, "io": frozenset({"open", "FileIO"})}
PATH: Final = frozenset(
    [
        "write_bytes",
        "write_text",
        "read_bytes",
        "read_text",
        "mkdir",
        "chmod",
        "lchmod",
        "touch",
        "rmdir",
        "symlink_to",
        "hardlink_to",
    ]
)


def opens(call: ast.Call) -> bool:
    """Return whether a call opens or changes a file by its path."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id == "open"
    if not isinstance(function, ast.Attribute):
        return False
    name = function.attr
    owner = function.value.id if isinstance(function.value, ast.Name) else ""
    if owner == "tempfile":
        return True
    if owner in MODULES:
        return name in MODULES[owner]
    return name in PATH or _is_of_path(call, name)


def _is_of_path(call: ast.Call, name: str) -> bool:
    """Return whether a method is that of a path, by its arguments.

    Methods of the door have the same names, and the name of a file as an argument.
    """
    plain = [arg for arg in call.args if not isinstance(arg, ast.Starred)]
    if name == "unlink":
        return not plain
    if name in {"rename", "replace"}:
        return len(plain) == 1 == len(call.args) and not call.keywords
    if name == "open":
        words = {word.arg for word in call.keywords}
        text = any(
            isinstance(a, ast.Constant) and isinstance(a.value, str) for a in plain
        )
        return text or bool(words & {"mode", "encoding", "buffering"})
    return False


def imports(node: ast.AST) -> bool:
    if not isinstance(node, ast.ImportFrom):
        return False
    names = {alias.name for alias in node.names}
    of = MODULES.get(node.module or "", frozenset())
    return bool(names & of) or node.module == "tempfile"


def openings(source: str) -> Iterator[int]:
    """Yield the lines that open or change a file."""
    for node in ast.walk(ast.parse(source)):
        if imports(node) or (isinstance(node, ast.Call) and opens(node)):
            yield node.lineno  # type: ignore[attr-defined]


@functools.cache
def found() -> dict[str, list[int]]:
    result: dict[str, list[int]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT)
        if name.parts[0] in FOLDERS:
            continue
        lines = sorted(openings(path.read_text(encoding="utf-8")))
        if lines:
            result[name.as_posix()] = lines
    return result


def test_no_other_module_opens_or_changes_a_file() -> None:
    others = {name: lines for name, lines in found().items() if name not in FILES}

    assert not others, f"use pend_storage._files: {others}"


def test_every_exception_is_one() -> None:
    assert FILES.keys() <= found().keys()


@pytest.mark.parametrize(
    "line",
    [
        "open('x')",
        "os.open(path, os.O_RDONLY)",
        "os.replace(a, b)",
        "os.fchown(fd, 1, 1)",
        "path.read_bytes()",
        "path.open('rb')",
        "path.open(mode='rb')",
        "path.unlink()",
        "path.unlink(missing_ok=True)",
        "path.rename(other)",
        "new.replace(path)",
        "tempfile.mkstemp()",
        "shutil.copyfile(a, b)",
        "from os import rename",
        "from tempfile import mkstemp",
    ],
)
def test_an_opening_is_found(line: str) -> None:
    assert list(openings(line)) == [1]


@pytest.mark.parametrize(
    "line",
    [
        "directory.unlink(name)",
        "directory.rename(name, to)",
        "directory.replace(name, chunks)",
        "text.replace('a', 'b')",
        "when.replace(tzinfo=UTC)",
        "file.open()",
        "SegmentReader.open(path)",
        "os.fdopen(fd, 'rb')",
    ],
)
def test_the_door_itself_is_none(line: str) -> None:
    assert not list(openings(line))
