"""Tracebacks of unexpected errors, whose messages may cite any text."""

from __future__ import annotations

import sys
import threading
import traceback
from types import TracebackType
from typing import Final

from pend_storage._shown import message_text

__all__ = ["show_tracebacks", "traceback_text"]

_MARGIN: Final = "  "
"""Begins each line, so that no message can forge a line of the command."""


def traceback_text(error: BaseException) -> str:
    """Return the traceback of an error, each line visible and of bounded length."""
    text = "".join(traceback.format_exception(error))
    return "\n".join(_MARGIN + message_text(line) for line in text.splitlines())


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
