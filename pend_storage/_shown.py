"""Bounded, escaped display of values, keys and texts in reports, messages and events.

A value of a record may be of any size, and hold any character. Code that shows one to people
or writes one to a log uses this module, so that a line stays a line. The full value stays
where it is: in the record, or in a quarantined record (``pend-storage quarantine show ID
--full``).
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pend_storage._escaping import escaped

__all__ = [
    "MOST_IN_ERRORS",
    "MOST_OF_A_MESSAGE",
    "MOST_SHOWN",
    "bounded",
    "bounded_path",
    "clause",
    "cut",
    "did_you_mean",
    "listed",
    "message_text",
    "moment",
    "one_line",
    "outline",
    "path_text",
    "shortened",
    "shown",
]

MOST_SHOWN: Final = 200
"""Characters of a value, a key or a text that are shown."""
MOST_IN_ERRORS: Final = 60
"""Characters of a refused value that its error shows."""
MOST_OF_A_MESSAGE: Final = 2_000
"""Characters of the message of an error or an event."""
_END_OF_A_MESSAGE: Final = 500
"""Of these, characters from the end of a longer one: what to do stands there."""
_MOST_OF_A_CLAUSE: Final = 500
"""Characters of a part of a message: a reason, a path."""
_MOST_OF_A_KEY: Final = 6
"""Characters of a personal key that are shown: of a hash, too few to guess whose it is."""
_QUOTES: Final = 3  # and the b of bytes
_MOST_STEPS: Final = 20
"""Member names and list indices of a path that are shown."""
_MOST_NAMES: Final = 20
"""Names that are listed in a sentence."""
_MOST_LISTED: Final = 600
"""Characters after which no further name is listed."""
_MOST_COMPARED: Final = 100
"""Characters of a word, and names, that a suggestion compares: it takes their product."""
_MOST_BITS: Final = 13_287
"""Bits of an integer that is printed; CPython prints no more than 4,300 digits."""


def cut(text: str, most: int = MOST_SHOWN) -> str:
    """Return a text as it is, or its beginning and its length.

    Nothing is escaped: that is for documents of JSON. People get :func:`one_line`.

    Args:
        text: of any length.
        most: characters of the result.
    """
    return text if len(text) <= most else _with_size(text, len(text), most)


def _with_size(text: str, length: int, most: int) -> str:
    size = f"... ({length:,} characters)"
    return text[: max(most - len(size), 1)] + size


def one_line(text: str, most: int = MOST_SHOWN) -> str:
    """Return a text of any origin as one visible line, without quotes.

    Args:
        text: of any length, with any character.
        most: characters of the result.
    """
    line = escaped(text[:most])
    if len(text) <= most and len(line) <= most:
        return line
    return _with_size(line, len(text), most)


def clause(text: str) -> str:
    """Return a part of a message as one visible line: a reason of another program, a path."""
    return one_line(text, _MOST_OF_A_CLAUSE)


def message_text(text: str, most: int = MOST_OF_A_MESSAGE) -> str:
    """Return a message as one visible line: of a long one, its beginning and its end.

    Args:
        text: of any length, with any character.
        most: characters of the result.
    """
    line = escaped(text[:most])
    if len(text) <= most and len(line) <= most:
        return line
    gap = f" ... ({len(text):,} characters) ... "
    end = escaped(text[-_END_OF_A_MESSAGE:])[-_END_OF_A_MESSAGE:]
    return line[: most - len(gap) - len(end)] + gap + end


def shown(value: Any, most: int = MOST_SHOWN) -> str:
    """Return the ``repr`` of a value, or its beginning and the size of the value.

    The time it takes depends on what is shown, not on the value: a list of a million items is not
    printed first and cut afterwards.

    Args:
        value: a key, a field's value, or anything else.
        most: characters of the representation that are kept.
    """
    if isinstance(value, str | bytes):
        text = escaped(repr(value[:most]))
        if len(value) <= most and len(text) <= most + _QUOTES:
            return text
        unit = "characters" if isinstance(value, str) else "bytes"
        return f"{text[:most]}{text[-1]}... ({len(value):,} {unit})"
    text, size = "", 0
    for piece in _pieces(value, most):
        text += escaped(piece[: most + 1])
        size = len(text)
        if size > most:
            break
    if size <= most:
        return text
    return f"{text[:most]}...{_size(value)}"


def outline(value: Any) -> str:
    """Return type and size of a value whose content must not be shown."""
    size = f" of length {len(value)}" if isinstance(value, str | bytes | list) else ""
    return f"<{type(value).__name__}{size}>"


def shortened(key: str) -> str:
    """Return the beginning of a key that is personal, for a log: enough to find it.

    The whole key stands in the reports of the commands, and in the attributes of errors.
    """
    if len(key) <= _MOST_OF_A_KEY:
        return shown(key)
    return f"{shown(key[:_MOST_OF_A_KEY])}..."


def bounded(value: Any, most: int = MOST_SHOWN) -> Any:
    """Return a value for a JSON report: as it is where it is short, else a cut text.

    Numbers, truth values and null are never cut.

    Args:
        value: of a record.
        most: characters that are kept.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return cut(value, most)
    if isinstance(value, Mapping | list | tuple):
        text = shown(value, most)
        return value if len(text) <= most else text
    return value if len(str(value)) <= most else shown(value, most)


def listed(names: Iterable[str], most: int = _MOST_NAMES) -> str:
    """Join names for a sentence: the first of them, and the number of the rest."""
    every = list(names)
    text, count = "", 0
    for name in every[:most]:
        text += (", " if count else "") + one_line(name)
        count += 1
        if len(text) > _MOST_LISTED:
            break
    rest = len(every) - count
    return f"{text} and {rest:,} more" if rest else text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """End a sentence about an unknown word: with the closest known one, or with a dot."""
    if len(word) > _MOST_COMPARED:
        return "."
    some = itertools.islice(known, _MOST_COMPARED)
    names = {name.lower(): name for name in some if len(name) <= _MOST_COMPARED}
    close = difflib.get_close_matches(word.lower(), [*names], n=1, cutoff=0.5)
    return f"; did you mean {shown(names[close[0]])}?" if close else "."


def moment(at: datetime | str) -> str:
    """Format a time as ``2026-11-29 21:03:04 UTC``; texts that are no time stay."""
    if isinstance(at, str):
        try:
            return moment(datetime.fromisoformat(at))
        except ValueError:
            return one_line(at)
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    return f"{aware.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def bounded_path(path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Cut the long member names of a path, for a JSON report."""
    return tuple(cut(step) if isinstance(step, str) else step for step in path)


def path_text(path: tuple[str | int, ...], most: int = MOST_SHOWN) -> str:
    """Join a path of member names and list indices by dots.

    Args:
        path: as :class:`~pend_storage._model.diff.Difference` has it.
        most: characters that are kept.
    """
    steps = [str(step)[: most + 1] for step in path[:_MOST_STEPS]]
    steps += ["..."] if len(path) > _MOST_STEPS else []
    text = escaped(".".join(steps))
    return text if len(text) <= most else f"{text[:most]}..."


def _size(value: Any) -> str:
    """Return the size of a container in brackets; nothing for other values."""
    if isinstance(value, Mapping):
        return f" ({len(value):,} members)"
    if isinstance(value, list | tuple | set | frozenset):
        return f" ({len(value):,} items)"
    return ""


def _pieces(value: Any, most: int) -> Iterator[str]:
    """Yield the representation of a value in pieces, each bounded in length."""
    if isinstance(value, str | bytes):
        yield repr(value if len(value) <= most else value[: most + 1])
    elif isinstance(value, dict):
        yield "{"
        for number, (name, item) in enumerate(value.items()):
            yield ", " if number else ""
            yield from _pieces(name, most)
            yield ": "
            yield from _pieces(item, most)
        yield "}"
    elif type(value) in {list, tuple}:
        yield "[" if isinstance(value, list) else "("
        for number, item in enumerate(value):
            yield ", " if number else ""
            yield from _pieces(item, most)
        yield "]" if isinstance(value, list) else ",)" if len(value) == 1 else ")"
    else:
        yield _representation(value)


def _representation(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"<{type(value).__name__} of {value.bit_length():,} bits>"
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - of a class of the caller; a message must be made
        return f"<{type(value).__name__}>"
