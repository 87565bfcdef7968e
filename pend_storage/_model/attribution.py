"""Attribution of commits (author, reason, request), and the tokens that identify them.

All belong to the caller's context. They are written into each batch when it is made, so
that it carries them through threads, merged commits and a switch of the primary.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from itertools import count
from typing import Final, NamedTuple

from pend_storage._fork import on_fork
from pend_storage._model.storable_text import is_storable
from pend_storage._shown import shown
from pend_storage.errors import ConfigError

__all__ = [
    "Actor",
    "acting",
    "acting_as",
    "actor",
    "current_actor",
    "new_token",
    "time_prefix",
    "token_moment",
    "token_time",
]

_COUNTER_MASK: Final = 2**32 - 1
_PROCESS_BITS: Final = 48
_LONGEST_NAME: Final = 64
_UNPRINTABLE: Final = re.compile(r"[^\w.@+-]")


class Actor(NamedTuple):
    """Author of a commit, its reason and its request; None where not given."""

    by: str | None = None
    reason: str | None = None
    request: str | None = None
    """Id of the request that the commit serves; kept with its audit entries."""


_actor: Final[ContextVar[Actor]] = ContextVar(
    "pend_storage_actor",
    default=Actor(),  # noqa: B039 - immutable
)


def actor() -> Actor:
    """Return the author of this context."""
    return _actor.get()


@contextmanager
def acting(
    *, by: str | None = None, reason: str | None = None, request: str | None = None
) -> Iterator[None]:
    """Attribute the commits of a block; see :meth:`Store.acting`."""
    for name, text in (("by", by), ("reason", reason), ("request", request)):
        if text is not None and not is_storable(text):
            raise ConfigError(
                f"acting({name}={shown(text)}): U+0000 and lone surrogates cannot be kept. "
                "Leave them out."
            )
    outer = _actor.get()
    inner = Actor(
        outer.by if by is None else by,
        outer.reason if reason is None else reason,
        outer.request if request is None else request,
    )
    with acting_as(inner):
        yield


@contextmanager
def acting_as(author: Actor) -> Iterator[None]:
    """Attribute the commits of a block to an author, whatever an outer block says."""
    held = _actor.set(author)
    try:
        yield
    finally:
        _actor.reset(held)


def current_actor(environ: Mapping[str, str] = os.environ) -> str:
    """Return the user, the machine and the process, for the history.

    The user is the real one of this process, by the system; a variable such as ``LOGNAME``
    could name anybody. ``SUDO_USER`` is added, for a command that an administrator runs: sudo
    sets it, and only root could have set it otherwise.

    Args:
        environ: the environment variables.
    """
    number = os.getuid()
    try:
        user = pwd.getpwuid(number).pw_name
    except KeyError:  # a user id without a name, as in some containers
        user = f"uid {number}"
    asked = _UNPRINTABLE.sub("?", environ.get("SUDO_USER", ""))[:_LONGEST_NAME]
    on_behalf = f" for {asked}" if asked and number == 0 else ""
    return f"{user}{on_behalf}@{socket.gethostname()}, process {os.getpid()}"


def token_moment() -> str:
    """Return the prefix of tokens that are made now; tokens sort by time."""
    return f"{time.time_ns() // 1_000_000:012x}"


def time_prefix(time: datetime) -> str:
    """Return the prefix of tokens that are made at a time; see :func:`token_moment`."""
    return f"{max(int(time.timestamp() * 1000), 0):012x}"


class _Tokens:
    """Generator of the tokens of one process."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin a series of tokens that no other process has."""
        self._process = f"{secrets.randbits(_PROCESS_BITS):012x}"
        self._next = count().__next__  # atomic: no lock

    def make(self) -> str:
        moment, number = time.time_ns() // 1_000_000, self._next() & _COUNTER_MASK
        return f"{moment:012x}{self._process}{number:08x}"


_tokens: Final = _Tokens()
new_token: Final = _tokens.make
"""Makes a token that no other commit has: 32 hexadecimal digits.

The first 12 are the milliseconds since 1970, as in a UUID of version 7 (RFC 9562), so
that an index of tokens grows at its end, and so that a store knows how far back it must
look for one. 12 name the process at random, 8 count.
"""

on_fork(_tokens.renew)


def token_time(token: str) -> float | None:
    """Return the time of a token, in seconds since 1970; None for other texts."""
    try:
        return int(token[:12], 16) / 1000
    except ValueError:
        return None
