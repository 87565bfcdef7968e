"""Division of a file: its envelope, and the byte range of each record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from pend_storage._shown import shown
from pend_storage.legacy._exact_json import UnreadableError, read
from pend_storage.legacy._file_envelope import (
    JSON_LINES,
    LIST,
    MAP,
    OBJECT,
    SCALAR,
    WRAPPED,
    WRAPPED_MAP,
    WRAPPERS,
    FileEnvelope,
)
from pend_storage.legacy._scan import (
    BrokenFileError,
    Container,
    contents,
    lines,
    name_at,
    single,
    top_level,
)

__all__ = ["DividedFile", "FileShapes"]

_BOM: Final = b"\xef\xbb\xbf"


class DividedFile(NamedTuple):
    """Result of the division of a file."""

    envelope: FileEnvelope
    top: Container | None
    """Outermost list or object; None where it was not needed."""
    records: Container | None
    """Ranges of the records; None where the file has none."""


@dataclass(frozen=True, slots=True)
class FileShapes:
    """Allowed shapes of a file; divides it by the one that it has."""

    allowed: Sequence[str]
    """Shapes, the usual one first."""
    wrapper: str | None
    """Member that holds the records of a wrapped file."""
    blank_is_empty: bool

    @property
    def usual(self) -> FileEnvelope:
        """Envelope of a new file."""
        return FileEnvelope.usual(self.allowed[0], self.wrapper)

    def divide(self, raw: bytes) -> DividedFile:
        """Divide a file into its envelope and its records.

        Args:
            raw: the bytes of the file.

        Raises:
            BrokenFileError: the file is not JSON, or of a shape that is not allowed.
        """
        if JSON_LINES in self.allowed:
            return self._whole(JSON_LINES, raw, lines(raw))
        alone = self._alone(raw)
        if alone is not None:
            return self._whole(alone, raw, single(raw))
        top = top_level(raw)
        if top is not None:
            return self._divided(raw, top)
        if not self.blank_is_empty:
            raise BrokenFileError("blank", "the file is not JSON")
        return self._empty(raw)

    def _empty(self, raw: bytes) -> DividedFile:
        return DividedFile(replace(self.usual, nothing=raw), None, None)

    def _whole(self, shape: str, raw: bytes, records: Container | None) -> DividedFile:
        if records is None or not len(records):
            return self._empty(raw)
        return DividedFile(FileEnvelope.found(shape, raw, records), None, records)

    def _alone(self, raw: bytes) -> str | None:
        """Return the shape of a file that is one record; None for other files."""
        start = len(_BOM) if raw.startswith(_BOM) else 0
        text = raw[start:].strip(b" \t\r\n")
        if text[:1] == b"{" and OBJECT in self.allowed:
            return OBJECT
        if SCALAR not in self.allowed or text[:1] in {b"{", b"[", b""}:
            return None
        try:
            read(text)
        except UnreadableError as error:
            reason = f"the file is not JSON: {error.reason}"
            raise BrokenFileError(error.code, reason) from error
        return SCALAR

    def _divided(self, raw: bytes, top: Container) -> DividedFile:
        wraps = not WRAPPERS.isdisjoint(self.allowed)
        shape, records = LIST, top if top.is_list else None
        if not top.is_list and wraps:
            records = self._wrapped(raw, top)
            shape = self._wrapping(records)
        if records is None and (MAP in self.allowed or not wraps):
            shape, records = MAP, top
        if records is None and len(top) and self.wrapper is not None:
            envelope = FileEnvelope.inserted(shape, raw, top, self.wrapper)
            return DividedFile(envelope, top, None)
        if records is None or (not len(records) and not self._tells_shape(shape)):
            return self._empty(raw)
        if shape not in self.allowed:
            raise BrokenFileError("wrong-shape", f"the file is {_KINDS[shape]}")
        return DividedFile(FileEnvelope.found(shape, raw, records), top, records)

    def _tells_shape(self, shape: str) -> bool:
        """Return whether the shape of a file without records is that of one with records.

        Not always: the server leaves a bare list or map where it would wrap a list.
        """
        wraps = self.allowed[0] in WRAPPERS
        return shape in self.allowed and (shape in WRAPPERS or not wraps)

    def _wrapping(self, records: Container | None) -> str:
        """Return the shape of an object around records; the usual one without records."""
        if records is not None:
            return WRAPPED if records.is_list else WRAPPED_MAP
        return next(shape for shape in self.allowed if shape in WRAPPERS)

    def _wrapped(self, raw: bytes, top: Container) -> Container | None:
        """Divide the records inside of a wrapped file; None where it has no such member."""
        found = [
            value
            for start, value in zip(top.starts, top.values, strict=True)
            if name_at(raw, start) == self.wrapper
        ]
        if not found:
            return None
        start = found[-1]  # every parser keeps the last
        shape = {b"[": WRAPPED, b"{": WRAPPED_MAP}.get(raw[start : start + 1])
        if shape in self.allowed:
            return contents(raw, start)
        if MAP in self.allowed:
            return None
        kind = "a list" if WRAPPED in self.allowed else "an object"
        raise BrokenFileError("wrong-shape", f"{shown(self.wrapper)} is not {kind}")


_KINDS: Final = {
    LIST: "a list",
    MAP: "an object",
    WRAPPED: "an object around a list",
    WRAPPED_MAP: "an object around an object",
}
