"""Route of calls to the primary of a pair."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from pend_storage._model.attribution import token_moment
from pend_storage.dualwrite._roles import Side, other
from pend_storage.errors import ConfigError
from pend_storage.store import Store

__all__ = ["PrimaryCheck", "Route", "RouteListener", "follower_of", "require_primary"]


@dataclass(frozen=True, slots=True)
class Route:
    """Route of calls: the primary, its epoch, and the secondary that follows it."""

    side: Side
    store: Store
    epoch: int
    follower: Store | None
    is_certain: bool = True
    """False where it is not known, or not settled, whether the other store follows."""
    since: str = field(default_factory=token_moment, compare=False)
    """When it was found, as the beginning of a token: a commit whose token is older may
    be in the log of the other store, which was primary then."""

    @property
    def secondary(self) -> Store:
        """Follower, for code that runs only where there is one."""
        assert self.follower is not None  # noqa: S101 - its callers have checked
        return self.follower

    @property
    def follower_side(self) -> Side:
        """Side of the follower, if there is one."""
        return other(self.side)


class RouteListener(Protocol):
    """Collaborator of the router that works along the route: the relay."""

    def route_changed(self, route: Route) -> None:
        """Handle a new route; must not block, because calls wait for it."""


class PrimaryCheck(Protocol):
    """Collaborator of the router that compares the primary's log with what is known."""

    def refresh(self, route: Route, *, now: bool = False) -> None:
        """Compare again, unless that was done just now; never raises."""


def require_primary(store: Store, epoch: int | None) -> None:
    """Check the role of a store by an empty read.

    Raises:
        StaleEpoch: the store is not primary at that epoch.
    """
    store.read(next(iter(store.schema)).name, (), epoch=epoch)


def follower_of(route: Route) -> Store:
    """Return the secondary.

    Raises:
        ConfigError: there is none.
        StaleEpoch: the roles have changed; read them again.
    """
    if route.follower is None:
        require_primary(route.store, route.epoch)  # perhaps there is one since
        raise ConfigError(
            "there is no secondary in this phase: switch to parallel or "
            "postgres-primary first."
        )
    return route.follower
