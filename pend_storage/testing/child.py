"""Entry point of a child process of the crash kit: run one pickled function."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from typing import IO, Any

__all__ = ["main", "read_frame", "write_frame"]

_LENGTH = 8
"""Bytes of a message's length prefix."""


def read_frame(stream: IO[bytes]) -> bytes | None:
    """Read the next message; None at the end, or if the writer died within it."""
    head = stream.read(_LENGTH)
    if len(head) < _LENGTH:
        return None
    size = int.from_bytes(head)
    body = stream.read(size)
    return body if len(body) == size else None


def write_frame(descriptor: int, body: bytes) -> None:
    """Send a message; once this returns, it arrives even if the process dies."""
    rest = memoryview(len(body).to_bytes(_LENGTH) + body)
    while rest:
        # write() may take a part of it where the pipe is full.
        rest = rest[os.write(descriptor, rest) :]


def _die_with_parent() -> None:
    # Not sys.stdin: the interpreter would wait for its lock when it exits.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run the function that standard input holds, then exit."""
    descriptor = int(sys.argv[1])
    payload = read_frame(sys.stdin.buffer)
    if payload is None:
        return
    threading.Thread(target=_die_with_parent, daemon=True).start()
    target, (args, kwargs) = pickle.loads(payload)  # noqa: S301 - sent by our parent

    def report(value: Any) -> None:
        write_frame(descriptor, pickle.dumps(value))

    target(report, *args, **kwargs)


if __name__ == "__main__":
    main()
