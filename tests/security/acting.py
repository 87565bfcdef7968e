"""Commands of root that become another user, in processes whose imports are done."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import pkgutil
import sys
import tempfile
from pathlib import Path
from typing import Final, NoReturn

import pend_storage
from pend_storage.cli import _run_as
from pend_storage.cli._app import run
from pend_storage.cli.main import main

__all__ = [
    "OTHER",
    "THIRD",
    "as_owner",
    "give",
    "hidden_from_owner",
    "open_place",
    "several_as_owner",
    "without_capabilities",
]

OTHER, THIRD = 4321, 4322
"""Users without an entry in the system, as in a container."""
_PROGRAMS: Final = (".__main__", ".migrations.env")
"""Modules that do something when they are imported."""


def as_owner() -> NoReturn:
    """Run a command as if every user could read the interpreter and the library."""
    _import_everything()
    main()


def several_as_owner() -> None:
    """Run the commands of a file likewise, each before a line with its exit code."""
    _import_everything()
    commands = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for arguments in commands:
        code = run(arguments)
        sys.stdout.write(f"\n== {int(code)}\n")
        sys.stdout.flush()


def _import_everything() -> None:
    """Import all that a command may import later.

    The interpreter of a developer may lie where root alone may read.
    """
    setattr(_run_as, "_unreadable_by", lambda _: None)  # noqa: B010 - of another type
    for module in pkgutil.walk_packages(pend_storage.__path__, "pend_storage."):
        if not module.name.endswith(_PROGRAMS):
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(module.name)


def open_place() -> Path:
    """Make a directory that every user may enter."""
    place = Path(tempfile.mkdtemp(prefix="pend-open-"))
    place.chmod(0o755)
    return place


def give(path: Path, user: int) -> None:
    """Give a directory and what is in it to a user."""
    for each in (path, *path.rglob("*")):
        os.chown(each, user, user, follow_symlinks=False)


def hidden_from_owner() -> NoReturn:
    """Run a command of an installation that only root may read."""
    with tempfile.TemporaryDirectory() as hidden:  # mode 0700
        _run_as._PACKAGE = Path(hidden)  # type: ignore[misc]
        main()


def without_capabilities() -> NoReturn:
    """Run a command of a root that may not change its user, as in a bare container."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    os.setgroups = os.initgroups = refuse
    main()
