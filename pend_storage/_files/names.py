"""File names: shortened ones, and unpredictable ones for files that are not complete."""

from __future__ import annotations

import hashlib
import os
import secrets
from typing import Final

__all__ = ["TEMPORARY", "fitting", "temporary_name"]

TEMPORARY: Final = ".new"
"""Ending of the name of a file that is not complete."""
_LONGEST_NAME: Final = 255  # bytes, on nearly all file systems


def fitting(name: str, ending: str) -> str:
    """Return a file name with an ending; a digest replaces a name that is too long."""
    whole = name + ending
    if len(os.fsencode(whole)) <= _LONGEST_NAME:
        return whole
    digest = hashlib.blake2b(os.fsencode(name), digest_size=16).hexdigest()
    return f".{digest}{ending}" if name.startswith(".") else f"{digest}{ending}"


def temporary_name(ending: str = TEMPORARY) -> str:
    """Return a name that no other program can predict, and occupy before."""
    return f".{secrets.token_hex(12)}{ending}"
