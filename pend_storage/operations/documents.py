"""Documents that commands and the console share."""

from __future__ import annotations

from typing import Any

from pend_storage.operations.status import EnvironmentStatus

__all__ = ["status_document"]


def status_document(found: EnvironmentStatus) -> dict[str, Any]:
    """Return the document of ``pend-storage status --json``, without the exit code.

    The facts that scripts need most stand at its top, all of them in ``result``.
    """
    details = found.details
    return {
        "phase": found.phase,
        "wanted": found.flag.wanted,
        "lag": None if details is None else details.lag,
        "backup": found.backup,
        "readiness": None if details is None else details.ahead,
        "result": found,
    }
