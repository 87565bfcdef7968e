"""Lines of a stream of pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pend_storage.errors import CorruptFile

__all__ = ["lines_of"]


def lines_of(pieces: Iterable[bytes], place: str) -> Iterator[bytes]:
    """Yield the lines of a stream, without their ends; the last line must have one.

    Args:
        pieces: of any size.
        place: name of the object, for messages.

    Raises:
        CorruptFile: it ends in the middle of a line.
    """
    rest: list[bytes] = []
    for piece in pieces:
        first, *more = piece.split(b"\n")
        rest.append(first)
        if more:
            yield b"".join(rest)
            yield from more[:-1]
            rest = [more[-1]]
    if any(rest):
        raise CorruptFile("it ends in the middle of a line", path=place)
