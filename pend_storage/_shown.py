"""Bounded display of values and keys in reports, messages and events.

A value of a record may be of any size. Code that shows one to people or writes one to a log
uses this module, so that a line stays a line. The full value stays where it is: in the
record, or in a quarantined record (``pend-storage quarantine show ID --full``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

__all__ = [
    "MOST_SHOWN",
    "bounded",
    "bounded_path",
    "cut",
    "did_you_mean",
    "listed",
    "moment",
    "path_text",
    "shown",
]

MOST_SHOWN: Final = 200
"""Characters of a value or a key that are shown."""
_QUOTES: Final = 3  # and the b of bytes
_MOST_STEPS: Final = 20
"""Member names and list indices of a path that are shown."""
_MOST_NAMES: Final = 20
"""Names that are listed in a sentence."""


def cut(text: str, most: int = MOST_SHOWN) -> str:
    """Return a text as it is, or its beginning and its length.

    Args:
        text: of any length.
        most: characters of the result.
    """
    if len(text) <= most:
        return text
    size = f"... ({len(text):,} characters)"
    return text[: max(most - len(size), 1)] + size


def shown(value: Any, most: int = MOST_SHOWN) -> str:
    """Return the ``repr`` of a value, or its beginning and the size of the value.

    The time it takes depends on what is shown, not on the value: a list of a million items is not
    printed first and cut afterwards.

    Args:
        value: a key, a field's value, or anything else.
        most: characters of the representation that are kept.
    """
    if isinstance(value, str | bytes):
        text = repr(value[:most])
        if len(value) <= most and len(text) <= most + _QUOTES:
            return text
        unit = "characters" if isinstance(value, str) else "bytes"
        return f"{text[:most]}{text[-1]}... ({len(value):,} {unit})"
    text, size = "", 0
    for piece in _pieces(value, most):
        text += piece
        size = len(text)
        if size > most:
            break
    if size <= most:
        return text
    return f"{text[:most]}...{_size(value)}"


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
    text = ", ".join(map(cut, every[:most]))
    return f"{text} and {len(every) - most:,} more" if len(every) > most else text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """End a sentence about an unknown word: with the closest known one, or with a dot."""
    if len(word) > MOST_SHOWN:  # comparing takes time by the square of the length
        return "."
    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), [*names], n=1, cutoff=0.5)
    return f"; did you mean {names[close[0]]!r}?" if close else "."


def moment(at: datetime | str) -> str:
    """Format a time as ``2026-11-29 21:03:04 UTC``; texts that are no time stay."""
    if isinstance(at, str):
        try:
            return moment(datetime.fromisoformat(at))
        except ValueError:
            return at
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
    text = ".".join(steps)
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
        try:
            yield repr(value)
        except ValueError:  # an integer of more digits than Python converts
            yield f"<{type(value).__name__}>"
