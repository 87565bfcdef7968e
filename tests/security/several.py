"""Several commands in one process, each after a line with its number."""

from __future__ import annotations

import json
import sys

from pend_storage.cli._app import run
from pend_storage.cli._tracebacks import show_tracebacks

__all__ = ["main"]


def main() -> None:
    """Run the commands of the file that the first argument names."""
    show_tracebacks()
    with open(sys.argv[1], encoding="utf-8") as stream:  # noqa: PTH123 - a script
        commands = json.load(stream)
    for number, arguments in enumerate(commands):
        sys.stdout.write(f"== {number}\n")
        run(arguments)
        sys.stdout.flush()
