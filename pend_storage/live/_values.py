"""Conversion of values into and out of live views, as the ``json`` module does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pend_storage._model.diff import equal

__all__ = ["as_json", "json_default", "key_text", "plain", "track_index"]

_PLAIN: Final = frozenset({str, int, bool, float, type(None)})
_DEEP: Final = 400
"""Nesting depth at which copying stops: deeper than any store accepts."""


def json_default(value: Any) -> Any:
    """Serialize live views with ``json.dumps(..., default=json_default)``.

    Also for Flask's and FastAPI's encoders. Views are no subclasses of ``dict`` and
    ``list``, because the C code of ``json`` would read the empty base and print ``{}``.

    Raises:
        TypeError: the value is not a view; as from ``json`` itself.
    """
    snapshot = getattr(value, "snapshot", None)
    if isinstance(value, Mapping | Sequence) and callable(snapshot):
        return snapshot()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def key_text(key: Any) -> str:
    """Convert a member name as ``json.dump`` writes it: ``5`` becomes ``"5"``.

    Raises:
        TypeError: neither text, number, bool nor None; as from a dict, or from ``json``.
    """
    if type(key) is str:
        return key
    hash(key)  # raises TypeError for an unhashable key, as a dict does
    if isinstance(key, str):
        return str.__str__(key)
    if key is None:
        return "null"
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int):
        return int.__repr__(key)
    if isinstance(key, float):
        return float.__repr__(key)
    raise TypeError(
        f"keys must be str, int, float, bool or None, not {type(key).__name__}"
    )


def _no_view() -> None:
    """Stands for the value before an overwrite, which only a view has."""


def as_json(value: Any, depth: int = 0) -> Any:
    """Copy a value as it is after ``json.dump`` and ``json.load``.

    Anything that is not JSON stays as it is: the write reports what is wrong.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        for name, item in value.items():
            if type(name) is not str or type(item) not in _PLAIN:
                break
        else:  # nearly always
            return value.copy()
    if depth > _DEEP:  # perhaps a circular reference; the write refuses the depth
        return value
    before = getattr(value, "value_before", _no_view)()
    value = value if before is None else before
    if isinstance(value, Mapping):
        return {key_text(k): as_json(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple) or hasattr(value, "snapshot"):
        return [as_json(item, depth + 1) for item in value]
    return value


def plain(value: Any) -> Any:
    """Replace the views in a value by their plain content, to compare with plain data."""
    kind = type(value)
    if kind is dict:
        return {name: plain(item) for name, item in value.items()}
    if kind is list:
        return [plain(item) for item in value]
    if isinstance(value, Mapping | Sequence) and hasattr(value, "snapshot"):
        return value.snapshot()
    return value


def track_index(seen: Sequence[Any], index: int, now: Sequence[Any]) -> int | None:
    """Find the index of a list item after the list has changed.

    Args:
        seen: the list as it was.
        index: of the item, in it.
        now: the list as it is.

    Returns:
        The new index; None where it is not certain.
    """
    if seen is now:
        return index
    shorter = min(len(seen), len(now))
    front = 0
    while front < shorter and equal(seen[front], now[front]):
        front += 1
    if index < front:
        return index
    back = 0
    while back < shorter - front and equal(seen[-1 - back], now[-1 - back]):
        back += 1
    if index >= len(seen) - back:
        return len(now) - len(seen) + index
    found = [i for i in range(front, len(now) - back) if equal(seen[index], now[i])]
    if len(found) == 1:
        return found[0]
    # The item was changed in place: nothing was inserted or removed.
    return index if len(seen) == len(now) and not found else None
