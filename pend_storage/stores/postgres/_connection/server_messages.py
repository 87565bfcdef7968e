"""Messages of the server: text that libpq returns without a SQLSTATE."""

from __future__ import annotations

import itertools
import re
from typing import Final

__all__ = ["one_line", "reason_of", "termination_code", "text_of"]

_TERMINATIONS: Final = (
    (rb"administrator command", "57P01"),
    (rb"idle-in-transaction timeout", "25P03"),
    (rb"transaction timeout", "25P04"),
    (rb"idle-session timeout", "57P05"),
)
"""How a server's reason for ending a session begins, and the SQLSTATE for it."""
_WHERE: Final = re.compile(r"LINE \d+:|(QUERY|CONTEXT|STATEMENT):")
"""Prefixes of the message parts that point into the server's own SQL text."""


def termination_code(said: bytes) -> str:
    """SQLSTATE of a terminated session, derived from the message; empty if unknown.

    libpq leaves SQLSTATEs out of its text. A message in another language than English
    is unknown, and then so is the outcome.
    """
    return next(
        (
            code
            for words, code in _TERMINATIONS
            if re.search(
                rb"^FATAL:  terminating connection due to " + words + rb"\s*$",
                said,
                re.MULTILINE,
            )
        ),
        "",
    )


def reason_of(error: BaseException) -> str:
    """Message of an exception in one line; its type if it has none."""
    return one_line(str(error)) or type(error).__name__


def one_line(text: str) -> str:
    """Join the lines of a message, without the parts that quote SQL text."""
    lines = [line.strip() for line in text.splitlines()]
    kept = itertools.takewhile(lambda line: not _WHERE.match(line), lines)
    return "; ".join(line for line in kept if line)


def text_of(message: bytes | str) -> str:
    """Decode a message of libpq, which may be in any encoding."""
    return message if isinstance(message, str) else message.decode(errors="replace")
