"""Tracebacks of unexpected errors, whose messages may cite any text."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Final

from pend_storage._shown import message_text

__all__ = ["show_tracebacks", "traceback_text"]

_MARGIN: Final = "  "
"""Begins each line, so that none can be taken for one of the command."""
_FRAME: Final = "  File "
"""Begins a frame, which has two lines or more."""


def traceback_text(error: BaseException) -> str:
    """Return the traceback of an error, each line visible and of bounded length."""
    return "\n".join(_MARGIN + message_text(line) for line in _lines(error))


def _lines(error: BaseException) -> Iterator[str]:
    for part in traceback.format_exception(error):
        if part.startswith(_FRAME):
            yield from part.splitlines()
        else:
            yield part.strip()  # the message, whose own ends of lines are escaped


def show_tracebacks() -> None:
    """Write the tracebacks of this process escaped, in place of Python's own."""
    sys.excepthook = _show
    threading.excepthook = _show_of_thread


def _show(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    del kind, trace  # both are in the error
    sys.stderr.write(f"unexpected error, please report it:\n{traceback_text(error)}\n")


def _show_of_thread(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is not None and failure.exc_type is not SystemExit:
        _show(failure.exc_type, failure.exc_value, failure.exc_traceback)
