"""Daemon threads of a pair of stores."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["start_thread"]


def start_thread(work: Callable[[], None], name: str) -> threading.Thread | None:
    """Start a thread that does not keep the process alive.

    Args:
        work: what the thread runs.
        name: of the thread, as a debugger shows it.

    Returns:
        The thread; None where none can be started.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is ending: the work stays in the log
        return None
    return thread
