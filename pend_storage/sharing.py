"""Errors that several callers share."""

from __future__ import annotations

import copy
from typing import TypeVar

__all__ = ["own_copy"]

E = TypeVar("E", bound=Exception)


def own_copy(error: E) -> E:
    """An error for one of several callers who share it, with the shared one as its cause.

    Raising an error writes a traceback into it, so each of them needs an object.
    """
    try:
        mine = copy.copy(error)
    except Exception:  # noqa: BLE001 - one that cannot be copied is better than none
        return error
    mine.__cause__ = error
    return mine
