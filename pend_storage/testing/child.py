"""What runs in a child process of the crash kit: one function, given by pickle."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from typing import IO, Any

__all__ = ["main", "read_frame", "write_frame"]

_LENGTH = 8


def read_frame(stream: IO[bytes]) -> bytes | None:
    """The next message; None at the end, or where the writer died in the middle."""
    head = stream.read(_LENGTH)
    if len(head) < _LENGTH:
        return None
    size = int.from_bytes(head)
    body = stream.read(size)
    return body if len(body) == size else None


def write_frame(descriptor: int, body: bytes) -> None:
    """Send a message; when this returns it arrives, even if the process dies."""
    rest = memoryview(len(body).to_bytes(_LENGTH) + body)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _die_with_parent() -> None:
    while os.read(0, 4096):  # not sys.stdin: its lock would be held at the end
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run the function that standard input names, then end."""
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
