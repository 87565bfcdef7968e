"""One address behind which the server is exchanged: a Unix socket that outlives servers.

Clients keep the address; what answers there is another server afterwards. There are three
manners of exchanging it, see :class:`Manner`. A request or an answer can be trapped on its
way, so that the exchange happens between what the server has done and what its client knows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Final, Literal, TypeAlias

from typing_extensions import override

from pend_storage.testing.proxy import Line, Proxy

__all__ = ["PLAIN", "POSTGRES", "Address", "Manner", "TrappedWay", "Wire"]

TrappedWay: TypeAlias = Literal["asked", "answered"]
"""Asked: a request is on its way to the server. Answered: the server has done it, and the
answer is on its way back."""

_PIECE: Final = 65_536
_REST: Final = 1.0
"""Seconds in which sessions are expected to come to rest before an exchange."""
_OUTAGE: Final = 0.4
"""Seconds for which a visible exchange refuses connections."""
_PAUSE: Final = 0.005


class Manner(Enum):
    """How an exchange shows at the client's end."""

    MOVED = (
        "connections survive, as behind a pooler: the next request meets the new one"
    )
    RECONNECTED = "idle connections end: the next use connects anew, without an error"
    CUT = "all connections end, and new ones are refused for a moment"


class Wire:
    """What an address must understand of a protocol; this one understands nothing."""

    can_move: bool = False
    """Whether a session can be moved to another server by repeating its greeting."""

    def is_at_rest(self, tail: bytes) -> bool:
        """Whether an answer that ends so leaves nothing under way.

        Args:
            tail: the last sixteen bytes of the answer at most.
        """
        return bool(tail)


class _PostgresWire(Wire):
    """A session whose last word is ``ReadyForQuery``, idle, outside of a transaction."""

    can_move = True

    @override
    def is_at_rest(self, tail: bytes) -> bool:
        return tail.endswith(b"Z\0\0\0\5I")


PLAIN: Final = Wire()
POSTGRES: Final = _PostgresWire()
"""Of clients that need no password; a greeting with one cannot be repeated."""


class _Session(Line):
    """One client, and the connection to the server that it has at the moment."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        super().__init__(client)
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.listener: asyncio.Task[None] | None = None
        self.generation = -1
        self.greeting = b""
        self.tail = b""
        self.is_at_rest = False

    @override
    def abort(self) -> None:
        if self.server is not None:
            self.server.transport.abort()
        if self.listener is not None:
            self.listener.cancel()
        super().abort()


class _Trap:
    """Waits for a piece on its way, once."""

    def __init__(self, way: TrappedWay, skip: int, spring: Callable[[], None]) -> None:
        self.way = way
        self.left = skip
        self.spring = spring


class Address(Proxy):
    """A Unix socket that passes on to whichever server is behind it. Use ``with``."""

    accepted: int

    def __init__(self, path: Path, target: Path, *, wire: Wire = PLAIN) -> None:
        """Make it; nothing listens before :meth:`start`.

        Args:
            path: of the socket, which is made.
            target: the socket of the first server.
            wire: what to understand of the protocol.
        """
        super().__init__("", 0)
        self.path = path
        self.target = target
        self._wire = wire
        self._generation = 0
        self._manner: Manner | None = None
        self._trap: _Trap | None = None

    @override
    async def _bind(self) -> asyncio.Server:
        self.path.unlink(missing_ok=True)
        self._gate = asyncio.Event()
        self._gate.set()
        return await asyncio.start_unix_server(self._accept, self.path)

    # -- exchanging, from any thread ------------------------------------------------------

    @contextmanager
    def exchanging(self, manner: Manner) -> Iterator[None]:
        """Exchange the server within the block: nothing passes meanwhile.

        Set :attr:`target` in it, or restart what is there. What is under way when it
        begins is given a second to end; what has not ended then is cut off.
        """
        if manner is Manner.MOVED and not self._wire.can_move:
            manner = Manner.RECONNECTED
        if manner is Manner.CUT:
            self.cut()
        else:
            self._tell(lambda: self._hold(manner))
            self._wait_for_rest()
            self._tell(self._end_restless)
        try:
            yield
        finally:
            if manner is Manner.CUT:
                time.sleep(_OUTAGE)
                self.restore()
            self._tell(self._let_go)

    def trap(self, way: TrappedWay, skip: int, spring: Callable[[], None]) -> None:
        """Call ``spring`` when the next piece is on its way, and lose that piece.

        Args:
            way: which direction.
            skip: pieces to let pass before.
            spring: called once, in a thread of its own; may exchange the server.
        """
        self._tell(lambda: setattr(self, "_trap", _Trap(way, skip, spring)))

    def disarm(self) -> None:
        """Let everything pass again."""
        self._tell(lambda: setattr(self, "_trap", None))

    def _wait_for_rest(self) -> None:
        deadline = time.monotonic() + _REST
        while time.monotonic() < deadline:
            found: list[bool] = []
            self._tell(lambda found=found: found.append(self._is_quiet()))  # type: ignore[misc]
            if found[0]:
                return
            time.sleep(_PAUSE)

    # -- in the thread ----------------------------------------------------------------------

    def _sessions(self) -> list[_Session]:
        return [line for line in self._lines if isinstance(line, _Session)]

    def _is_quiet(self) -> bool:
        sessions = self._sessions()
        return all(s.is_at_rest for s in sessions if s.server is not None)

    def _hold(self, manner: Manner) -> None:
        self._manner = manner
        self._gate.clear()

    def _end_restless(self) -> None:
        """What is still under way could end behind the back of the exchange."""
        for session in self._sessions():
            if session.server is not None and not session.is_at_rest:
                session.abort()

    def _let_go(self) -> None:
        self._generation += 1
        for session in self._sessions():
            survives = self._manner is Manner.MOVED and session.is_at_rest
            if session.server is not None and not survives:
                session.abort()
        self._manner = None
        self._gate.set()

    @override
    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        session = _Session(writer)
        self._lines.add(session)
        try:
            await self._gate.wait()
            await self._connect(session)
            self.accepted += 1
            while piece := await reader.read(_PIECE):
                if session.is_at_rest:
                    await self._gate.wait()
                if session.generation != self._generation:
                    await self._connect(session)
                await self._request(session, piece)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # an end of it is gone, or the session was cut
        finally:
            self._lines.discard(session)
            session.abort()

    async def _request(self, session: _Session, piece: bytes) -> None:
        session.is_at_rest = False
        if not session.tail:
            session.greeting += piece
        elif self._springs("asked"):
            await self._spring(session)
        if session.server is not None:
            session.server.write(piece)
            await session.server.drain()

    async def _connect(self, session: _Session) -> None:
        """Reach what is behind the address now; a session that moves greets it first."""
        if session.listener is not None:
            session.listener.cancel()
        if session.server is not None:
            session.server.transport.abort()
        session.generation = self._generation
        reader, session.server = await asyncio.open_unix_connection(self.target)
        if session.tail:
            session.server.write(session.greeting)
            tail = b""
            while not self._wire.is_at_rest(tail):
                piece = await reader.read(_PIECE)
                if not piece:
                    raise ConnectionResetError
                tail = (tail + piece)[-16:]
        answers = self._answers(session, reader, session.generation)
        session.listener = asyncio.create_task(answers)

    async def _answers(
        self, session: _Session, reader: asyncio.StreamReader, generation: int
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(_PIECE):
                if self._outlives(session, generation):
                    continue  # the last words of a server: nobody has asked
                if session.tail and self._springs("answered"):
                    await self._spring(session)
                tail = (session.tail + piece)[-16:]
                session.client.write(piece)
                await session.client.drain()
                session.is_at_rest = self._wire.is_at_rest(tail)
                if session.tail or session.is_at_rest:  # else it is still being greeted
                    session.tail = tail
        if session.generation == generation and not self._outlives(session, generation):
            session.listener = None
            session.abort()

    def _outlives(self, session: _Session, generation: int) -> bool:
        """Whether a session goes on without the server of a generation."""
        is_moving = self._generation != generation or self._manner is Manner.MOVED
        return is_moving and session.is_at_rest

    def _springs(self, way: TrappedWay) -> bool:
        trap = self._trap
        if trap is None or trap.way != way:
            return False
        trap.left -= 1
        return trap.left < 0

    async def _spring(self, session: _Session) -> None:
        """The trap is sprung once, and the session that was caught in it ends.

        Raises:
            ConnectionResetError: always, when it is done.
        """
        trap, self._trap = self._trap, None
        server, session.server = session.server, None  # nobody waits for it to rest
        if server is not None:
            server.transport.abort()
        if trap is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, trap.spring)
        raise ConnectionResetError
