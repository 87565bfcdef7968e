"""Hostile texts, and the check that none of them reaches a reader as it is."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

FORGED: Final = "FORGED 0 wait"
HOSTILE: Final = (
    f"\x1b]0;title\x07\x1b[2J\x1b]52;c;eA==\x07\x9b31m\x7f\u202e\u2066\u200b\r\n{FORGED}\u2028"
    "[red]:smile:"
)
"""Title, screen, clipboard, colours, order of the text, and a line of its own."""
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_OWN: Final = re.compile(
    r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\r?\x1b\[(?:2K|1A)|\x1b\[H\x1b\[2J(?=\x1b|20)"
)
"""Colours; of progress bars the cursor and the line; before a time the watched screen."""


def harm_of(text: str) -> list[str]:
    """List what a terminal would obey, or a reader not see, of the output of a command."""
    text = _OWN.sub("", text.replace("\r\n", "\n"))
    found = {c for c in text if c != "\n" and unicodedata.category(c) in _HIDDEN}
    lines = [line for line in text.splitlines() if line.strip().startswith("FORGED")]
    return [*map(ascii, sorted(found)), *lines]
