"""Actors: who asks the console, and what they may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from starlette.requests import Request

from pend_storage._shown import listed, shown
from pend_storage.errors import ConfigError

__all__ = [
    "ROLES",
    "Actor",
    "Authorise",
    "Authority",
    "ConsoleRole",
    "HostAuthority",
    "parse_roles",
]

ConsoleRole: TypeAlias = Literal["view", "operate", "reveal"]
"""View: see the facts, with values redacted. Operate: the actions. Reveal: see values of
records, which the audit records."""

ROLES: Final[tuple[ConsoleRole, ...]] = ("view", "operate", "reveal")
_LONGEST: Final = 128


@dataclass(frozen=True, slots=True)
class Actor:
    """Actor: the person or program that asks. The roles operate and reveal include view."""

    name: str
    """Name in the history, the audit and the jobs."""
    roles: frozenset[str]
    """Of ``view``, ``operate``, ``reveal``; others are refused."""

    def __init__(self, name: str, roles: Iterable[str]) -> None:
        """Make an actor.

        Raises:
            ConfigError: no name, a name that is too long, or an unknown role.
        """
        if not name or len(name) > _LONGEST or not name.isprintable():
            raise ConfigError(
                f"an actor of the console needs a name of 1 to {_LONGEST} printable "
                f"characters, not {shown(name)}."
            )
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "roles", parse_roles(roles, place=f"actor {name}"))

    def may(self, role: ConsoleRole) -> bool:
        """Return whether the actor has a role."""
        return role in self.roles


def parse_roles(words: Iterable[str], *, place: str) -> frozenset[str]:
    """Return a set of roles, with ``view`` in it where there is any other.

    Raises:
        ConfigError: one is unknown; the message names the place.
    """
    roles = frozenset(word.strip() for word in words if word.strip())
    unknown = sorted(roles.difference(ROLES))
    if unknown:
        raise ConfigError(
            f"{place}: there is no role {shown(unknown[0])}. The roles are: {listed(ROLES)}."
        )
    return roles | {"view"} if roles else roles


Authorise: TypeAlias = Callable[[Request], Actor | Awaitable[Actor | None] | None]
"""Function of a host application: the actor of a request, or None to refuse it. It may be a
coroutine function."""


class Authority(Protocol):
    """Authority: decides who has sent a request."""

    login: str
    """How one logs in: ``none``, ``token``, ``basic``, ``proxy``, ``host``."""

    async def actor_of(self, request: Request) -> Actor | None:
        """Return who has sent a request; None: it must not be answered."""

    def challenge(self) -> dict[str, str]:
        """Return the headers of a 401."""


class HostAuthority:
    """Authority of a host application, into which the console is mounted."""

    login = "host"

    def __init__(self, authorise: Authorise) -> None:
        """Take the function of the host."""
        self._authorise = authorise

    async def actor_of(self, request: Request) -> Actor | None:
        """Ask the host; an error of it refuses, and is the host's to log."""
        found = self._authorise(request)
        return await found if isinstance(found, Awaitable) else found

    def challenge(self) -> dict[str, str]:
        """Return no header: the host has a login of its own."""
        return {}
