"""History of calls of all processes, each written to a file of its own.

A line is written before each call and another one after it. What a process had begun
when it was killed is in its file, and without an outcome. Times are those of the one
monotonic clock that all processes of a machine share.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

__all__ = [
    "Begun",
    "Ended",
    "Kind",
    "Operation",
    "Outcome",
    "Recorder",
    "Seen",
    "operations",
]

Kind: TypeAlias = Literal["read", "write"]
Outcome: TypeAlias = Literal["done", "conflict", "failed", "unknown"]
"""Conflict and failed: certainly nothing happened. Unknown: perhaps it did."""


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """Value of a key, read or written: version 0 is a key never written to."""

    key: str
    version: int | None
    """None where it is not known."""
    value: int | None
    """None where there is no record."""


class Begun(msgspec.Struct, frozen=True, tag=True):
    """A call, before it was made."""

    number: int
    at: float
    kind: Kind
    seen: tuple[Seen, ...]
    """What is to be written, or the keys to be read."""


class Ended(msgspec.Struct, frozen=True, tag=True):
    """A call, after it was made."""

    number: int
    at: float
    outcome: Outcome
    seen: tuple[Seen, ...] = ()
    reason: str = ""


class Operation(msgspec.Struct, frozen=True):
    """A whole call."""

    process: str
    kind: Kind
    seen: tuple[Seen, ...]
    begin: float
    end: float
    """When it had happened for certain; infinite where it is not known if it did."""
    answered: float
    """When the call came back; infinite where the process was killed."""
    outcome: Outcome
    reason: str = ""


class Recorder:
    """Appends to the file of a process; what is written survives its death."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self._number = 0

    def begin(self, kind: Kind, seen: Iterable[Seen]) -> int:
        """Write down a call that is about to be made; gives its number."""
        self._number += 1
        self._write(Begun(self._number, time.monotonic(), kind, tuple(seen)))
        return self._number

    def end(
        self,
        number: int,
        outcome: Outcome,
        seen: Iterable[Seen] = (),
        reason: str = "",
    ) -> None:
        """Write down what became of it."""
        self._write(Ended(number, time.monotonic(), outcome, tuple(seen), reason))

    def _write(self, line: Begun | Ended) -> None:
        os.write(self._file, msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        os.close(self._file)


def operations(directory: Path) -> list[Operation]:
    """All calls of all processes, in the order in which they began."""
    found = [call for path in directory.glob("*.jsonl") for call in _read(path)]
    return sorted(found, key=lambda call: call.begin)


def _read(path: Path) -> Iterator[Operation]:
    decode = msgspec.json.Decoder(Begun | Ended).decode
    lines = path.read_bytes().split(b"\n")[:-1]  # the last one may be torn
    begun: dict[int, Begun] = {}
    for line in map(decode, lines):
        if isinstance(line, Begun):
            begun[line.number] = line
        else:
            yield _whole(path.stem, begun.pop(line.number), line)
    for call in begun.values():
        never = Ended(call.number, math.inf, "unknown", reason="the process was killed")
        yield _whole(path.stem, call, never)


def _whole(process: str, begun: Begun, ended: Ended) -> Operation:
    seen: Sequence[Seen] = ended.seen or begun.seen
    end = math.inf if ended.outcome == "unknown" else ended.at
    return Operation(
        process=process,
        kind=begun.kind,
        seen=tuple(seen),
        begin=begun.at,
        end=end,
        answered=ended.at,
        outcome=ended.outcome,
        reason=ended.reason,
    )
