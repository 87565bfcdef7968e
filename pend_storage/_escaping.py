"""Escaping of characters that a terminal obeys, or that a reader cannot see.

A text of a record, a file, a file name, a server or a flag may hold control sequences that
change the clipboard, the title or the screen, line ends that forge a line, and characters that
reorder or hide what stands beside them. Letters, signs and spaces of all languages stay.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Final

__all__ = ["escaped", "escaped_json", "escaped_lines", "formula_free"]

_HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Controls, format characters (bidi, zero width, tags), unassigned and private ones, lone
surrogates, separators of lines and paragraphs."""
_BLANK: Final = frozenset(
    {
        0x034F,  # combining grapheme joiner
        *(0x115F, 0x1160, 0x3164, 0xFFA0),  # Hangul fillers
        *(0x17B4, 0x17B5),  # Khmer inherent vowels
        0x2800,  # the Braille pattern without a dot
        *range(0xFE00, 0xFE0E),  # variation selectors, but those of text and emoji
        *range(0xE0100, 0xE01F0),
    }
)
"""Characters of visible categories that are drawn as nothing."""
_JOINERS: Final = "\u200c\u200d"
_JOINED: Final = (
    "\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af"  # Arabic to Mongolian
    "\u2600-\u27bf\ufe0f\U0001f300-\U0001faff"  # emoji
)
"""Scripts whose spelling needs the joiners; between other characters they only hide."""
_STRAY_JOINER: Final = re.compile(
    f"(?<![{_JOINED}])[{_JOINERS}]|[{_JOINERS}](?![{_JOINED}])"
)
_SHORT: Final = {0x09: r"\t", 0x0A: r"\n", 0x0D: r"\r"}
_FORMULA: Final = frozenset("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - the wide forms count too
_MOST_CACHED: Final = 4_096
"""Code points whose escapes are kept: texts use few, and hostile ones need not be kept."""


def _is_hidden(code: int) -> bool:
    return unicodedata.category(chr(code)) in _HIDDEN_CATEGORIES or code in _BLANK


def _python_escape(code: int) -> str:
    if code <= 0xFF:  # noqa: PLR2004 - as repr() does
        return _SHORT.get(code) or f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004


def _json_escape(code: int) -> str:
    if code <= 0xFFFF:  # noqa: PLR2004 - beyond it JSON has pairs of surrogates
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


class _Escapes(dict[int, int | str]):
    """Table for ``str.translate``, filled by the code points that are met."""

    def __init__(self, form: Callable[[int], str], *, kept: str = "") -> None:
        super().__init__({ord(character): character for character in kept})
        self._form = form

    def __missing__(self, code: int) -> int | str:
        found = self._form(code) if _is_hidden(code) else code
        if len(self) < _MOST_CACHED:
            self[code] = found
        return found


_AS_PYTHON: Final = _Escapes(_python_escape, kept=_JOINERS)
_AS_JSON: Final = _Escapes(_json_escape, kept="\n")


def escaped(text: str) -> str:
    r"""Escape hidden characters, as ``\x1b``, ``\n`` or ``\u202e``; the rest stays.

    The result is one line. A second escaping changes nothing.

    Args:
        text: of any origin.
    """
    if text.isascii() and text.isprintable():
        return text
    found = text.translate(_AS_PYTHON)
    if _JOINERS[0] in found or _JOINERS[1] in found:
        found = _STRAY_JOINER.sub(lambda stray: _python_escape(ord(stray[0])), found)
    return found


def escaped_lines(text: str) -> str:
    """Escape all hidden characters but the ends of lines, for texts of several lines."""
    if "\n" not in text:
        return escaped(text)
    return "\n".join(map(escaped, text.split("\n")))


def escaped_json(text: str) -> str:
    """Escape hidden characters of encoded JSON, by escapes of JSON: its value stays.

    Args:
        text: a JSON document, or several, one a line.
    """
    return text if text.isascii() and "\x7f" not in text else text.translate(_AS_JSON)


def formula_free(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would evaluate as a formula."""
    return f"'{text}" if text[:1] in _FORMULA and text else text
