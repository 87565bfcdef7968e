"""JSON renderer with the output of ``JSON.stringify(value, null, 2)`` in Node.js.

The standard encoder is slow when it indents. It also cannot render what a damaged file
may hold: one name twice in an object, or a number with its own spelling. `Raw` and
`Pairs` stand for those two.
"""

from collections.abc import Collection
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Final, TypeAlias


@dataclass(frozen=True, slots=True)
class Raw:
    """Text that is written as it is: ``1e21``, ``-0.0``, ``NaN``."""

    text: str


@dataclass(frozen=True, slots=True)
class Pairs:
    """Object as a list of its members, so that a name may occur twice."""

    members: list[tuple[str, "Json"]]


Json: TypeAlias = (
    str | int | float | bool | Raw | Pairs | list["Json"] | dict[str, "Json"] | None
)
Record: TypeAlias = dict[str, Json]

INDENT: Final = "  "
_CONSTANTS: Final = {None: "null", True: "true", False: "false"}


def render(value: Json, margin: str = "\n") -> str:
    r"""Render a value over several lines.

    Lone surrogates stay in the text: encode it with ``errors="backslashreplace"``,
    which writes them as Node does, ``\ud800``.

    Args:
        value: value to render.
        margin: a line break and the indentation of the line that the value begins on.
    """
    if isinstance(value, dict):
        return _object(value.items(), margin)
    if isinstance(value, Pairs):
        return _object(value.members, margin)
    if not isinstance(value, list):
        return _scalar(value)
    inner = margin + INDENT
    items = f",{inner}".join([render(item, inner) for item in value])
    return f"[{inner}{items}{margin}]" if value else "[]"


def _scalar(value: str | float | Raw | None) -> str:
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None or isinstance(value, bool):
        return _CONSTANTS[value]
    return value.text if isinstance(value, Raw) else repr(value)


def member(name: str, value: Json, margin: str) -> str:
    """Render one member of an object."""
    return f"{encode_basestring(name)}: {render(value, margin)}"


def _object(members: Collection[tuple[str, Json]], margin: str) -> str:
    inner = margin + INDENT
    # Most values are texts; to print them here makes a large file a third cheaper.
    parts = [
        f"{encode_basestring(name)}: "
        + (encode_basestring(value) if isinstance(value, str) else render(value, inner))
        for name, value in members
    ]
    return f"{{{inner}{f',{inner}'.join(parts)}{margin}}}" if parts else "{}"
