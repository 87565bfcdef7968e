"""Which texts every store can keep."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["UNSTORABLE", "is_storable"]

UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
"""U+0000, which PostgreSQL cannot hold, and lone surrogates, which UTF-8 cannot."""


def is_storable(text: str) -> bool:
    """Whether a text can be kept, and sent at all."""
    return UNSTORABLE.search(text) is None
