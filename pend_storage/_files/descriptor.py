"""Descriptor: an open file or directory, closed with the object that holds it."""

from __future__ import annotations

import os

__all__ = ["Descriptor"]


class Descriptor:
    """Base of objects that hold one descriptor, in :attr:`fd`."""

    fd: int = -1
    """-1 before it is opened, and after it was closed."""

    def __del__(self) -> None:
        """Close the descriptor when the last user drops the object."""
        self.close()

    def close(self) -> None:
        """Close the descriptor; idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
