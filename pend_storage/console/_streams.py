"""Streams: snapshots and changes as server-sent events, each in bounded memory.

A page that does not read, because it is asleep or its line is slow, is cut after a few
seconds; its browser connects again by itself, and begins with the newest snapshot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response

from pend_storage.console._actors import Actor
from pend_storage.console._documents import encoded
from pend_storage.console._guard import failure
from pend_storage.console._site import Site

__all__ = ["changes", "snapshots"]

_HEARTBEAT: Final = 10
"""Seconds between two comments, by which a line that is dead is noticed."""
_STUCK: Final = 10.0
"""Seconds that one message may take: then the page is cut."""
_AGED: Final = 3.0
"""Seconds after which the last snapshot is sent again, with its age in the verdict."""
_RETRY: Final = 1_000
"""Milliseconds after which a browser connects again."""
_LONGEST_NUMBER: Final = 19


def _response(events: AsyncIterator[ServerSentEvent]) -> Response:
    return EventSourceResponse(events, ping=_HEARTBEAT, send_timeout=_STUCK, sep="\n")


async def snapshots(site: Site, request: Request, actor: Actor) -> Response:
    """Follow the snapshots of the environment."""
    del request

    async def events() -> AsyncIterator[ServerSentEvent]:
        async for look in site.poller.follow(patience=_AGED):
            yield ServerSentEvent(
                site.encoded_snapshot(actor).decode(),
                event="snapshot",
                id=str(look.number),
                retry=_RETRY,
            )

    return _response(events())


async def changes(site: Site, request: Request, actor: Actor) -> Response:
    """Follow the change log."""
    del actor
    given = request.headers.get("last-event-id") or request.query_params.get("after")
    after: int | None = None
    if given:
        is_number = (
            given.isascii() and given.isdigit() and len(given) <= _LONGEST_NUMBER
        )
        if not is_number or int(given) >= 2**63:
            return failure(
                422, "after must be the sequence of a change, as it was sent."
            )
        after = int(given)
    wanted = request.query_params.get("collections", "")
    names = frozenset(name for name in wanted.split(",") if name)

    async def events() -> AsyncIterator[ServerSentEvent]:
        async for message in site.feed.follow(after=after, collections=names):
            yield ServerSentEvent(
                encoded(message.document).decode(),
                event=message.event,
                id=None if message.sequence is None else str(message.sequence),
                retry=_RETRY,
            )

    return _response(events())
