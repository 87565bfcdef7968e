"""Log records: the payloads of frames, as JSON. No I/O.

A frame of the journal holds the effects of one or more commits, or it begins a segment,
or it ends one by naming the next. Members have short names, because a journal is long:

.. code-block:: text

    {"effects": [{"s": sequence, "p": epoch, "t": time, "k": token,
                  "by": who, "why": reason,
                  "r": [[collection, key, version, record], [collection, key, version]],
                  "m": [[name, value]],
                  "f": [[collection, key]]}]}

A row without a record is a tombstone; those under ``f`` are purged. An effect without a sequence is not part of the
change log.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import msgspec

from pend_storage._model.records import JSON
from pend_storage.codec import dump_json
from pend_storage.stores._inmemory.state import ChangedRow, LogRecord

__all__ = [
    "IN_LOG",
    "FramePayload",
    "SegmentStart",
    "decode_payload",
    "encode_effects",
    "encode_start",
    "row_beginning",
]

IN_LOG: Final = b'{"s":'
"""Text that every frame with an entry of the change log has."""


class SegmentStart(msgspec.Struct, frozen=True, omit_defaults=True):
    """Payload of the first frame of a segment."""

    number: int
    chain: int
    """The checksum at the end of the segment before."""
    base: int
    """Entries of this and later segments have a sequence above it; earlier ones do not."""
    at: datetime


class _Row(msgspec.Struct, frozen=True, array_like=True):
    collection: str
    key: str
    version: int
    record: msgspec.Raw = msgspec.Raw()


class _Effect(msgspec.Struct, frozen=True):
    s: int = 0
    p: int = 0
    t: datetime | None = None
    r: list[_Row] = []
    m: list[tuple[str, Any]] = []
    k: str | None = None
    by: str | None = None
    why: str | None = None
    f: list[tuple[str, str]] = []

    def effect(self) -> LogRecord:
        rows = tuple(
            ChangedRow(r.collection, r.key, r.version, bytes(r.record) or None)
            for r in self.r
        )
        return LogRecord(
            self.s,
            self.p,
            self.t,
            rows,
            tuple(self.m),
            self.k,
            self.by,
            self.why,
            tuple(self.f),
        )


class _Frame(msgspec.Struct, frozen=True):
    effects: list[_Effect] = []
    segment: SegmentStart | None = None
    next: int | None = None


class FramePayload:
    """Decoded payload of one frame."""

    __slots__ = ("effects", "next", "segment")

    def __init__(self, frame: _Frame) -> None:
        self.effects = [effect.effect() for effect in frame.effects]
        self.segment = frame.segment
        self.next = frame.next
        """Number of the segment in which the journal goes on."""


_decode: Final = msgspec.json.Decoder(_Frame).decode
_encode: Final = msgspec.json.Encoder().encode


def decode_payload(payload: bytes) -> FramePayload:
    """Decode the payload of a frame.

    Raises:
        msgspec.DecodeError: it has another shape.
    """
    return FramePayload(_decode(payload))


def encode_effects(effects: Iterable[LogRecord]) -> bytes:
    """Encode effects, in order, as one payload."""
    return b'{"effects":[%b]}' % b",".join(map(_effect_text, effects))


# By hand: bodies are JSON already, and are copied instead of encoded again.
def _effect_text(effect: LogRecord) -> bytes:
    parts = []
    if effect.sequence:
        parts.append(b'"s":%d,"p":%d' % (effect.sequence, effect.epoch))
    if effect.at is not None:
        parts.append(b'"t":%b' % _encode(effect.at))
    if effect.token is not None:
        parts.append(b'"k":%b' % _encode(effect.token))
    if effect.by is not None:
        parts.append(b'"by":%b' % _encode(effect.by))
    if effect.reason is not None:
        parts.append(b'"why":%b' % _encode(effect.reason))
    if effect.rows:
        parts.append(b'"r":[%b]' % b",".join(map(_row_text, effect.rows)))
    if effect.meta:
        parts.append(b'"m":[%b]' % b",".join(map(_meta_text, effect.meta)))
    if effect.forgotten:
        parts.append(b'"f":%b' % _encode(effect.forgotten))
    return b"{%b}" % b",".join(parts)


def row_beginning(collection: str, key: str) -> bytes:
    """Return the text with which a row of this key begins in every log record."""
    return b"[%b,%b," % (_encode(collection), _encode(key))


def _row_text(row: ChangedRow) -> bytes:
    place = (_encode(row.collection), _encode(row.key), row.version)
    if row.body is None:
        return b"[%b,%b,%d]" % place
    return b"[%b,%b,%d,%b]" % (*place, row.body)


def _meta_text(item: tuple[str, JSON]) -> bytes:
    return b"[%b,%b]" % (_encode(item[0]), dump_json(item[1]))


def encode_start(start: SegmentStart) -> bytes:
    """Encode the payload of the first frame of a segment."""
    return _encode({"segment": start})


def encode_end(following: int) -> bytes:
    """Encode the payload of the last frame of a segment."""
    return b'{"next":%d}' % following
