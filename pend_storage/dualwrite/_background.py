"""Daemon threads of a pair of stores."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["start_thread"]


def start_thread(work: Callable[[], None], name: str) -> threading.Thread | None:
    """Start a thread that does not keep the process alive; None where none can be had.

    Because the process is ending, for instance: what it would do stays in the log.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread
