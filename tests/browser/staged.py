"""Staged server: serves the page's files, and documents that a test has set.

For states that a real environment gets into seldom or slowly; the tests in
``test_real_console.py`` use the console itself.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import pend_storage
from tests.browser.documents import Document, screens, snapshot

__all__ = ["STATIC", "Staged", "serving"]

STATIC: Final = Path(pend_storage.__file__).parent / "console" / "static"
POLICY: Final = (
    "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_EVERY: Final = 0.2
"""Seconds between snapshots."""
_SENTENCE: Final = "would go from parallel to json-only; nothing would be lost"
_DRY: Final = {
    "before": "parallel",
    "wanted": "json-only",
    "after": "json-only",
    "steps": ["json-only"],
    "blockers": [],
    "refused": [],
}


class Staged:
    """State of a staged server; a test changes it while pages are open."""

    def __init__(self) -> None:
        self.snapshot = snapshot()
        self.screens = screens()
        self.is_frozen = False
        """True: no further look takes place."""
        self.is_away = False
        """True: no request is answered, and streams end."""
        self.needs_login = False
        self.requests: list[tuple[str, Document]] = []
        """Actions that were sent: name and body."""
        self.answers: dict[str, tuple[int, Document]] = {}
        """Answers of actions by name, for dry runs by ``NAME?``."""
        self.task: tuple[int, Document] = (404, {"error": "no such task"})
        """Answer to those who wait for an action."""
        self.changes: list[Document] = []
        """What the feed sends next."""
        self.url = ""
        self._number = 0

    def look(self) -> Document:
        """Return the present snapshot, with the time of this look."""
        if not self.is_frozen:
            self._number += 1
            self.snapshot["id"] = str(self._number)
            self.snapshot["looked_at"] = datetime.now(UTC).isoformat()
        return self.snapshot

    @property
    def status(self) -> Document:
        """The facts within the snapshot."""
        found: Document = self.snapshot["status"]["result"]
        return found

    def app(self) -> Starlette:
        """Return the application."""
        return Starlette(
            routes=[
                Route("/", self._index),
                Route("/api/v1/environment", self._environment),
                Route("/api/v1/stream", self._stream),
                Route("/api/v1/changes", self._feed),
                Route("/api/v1/session", self._login, methods=["POST"]),
                Route("/api/v1/tasks/{id}", self._task),
                Route("/api/v1/actions/{name}", self._action, methods=["POST"]),
                Route("/api/v1/{path:path}", self._screen),
                Mount("/static", StaticFiles(directory=STATIC)),
            ]
        )

    async def _index(self, _: Request) -> Response:
        headers = {"Content-Security-Policy": POLICY}
        return FileResponse(STATIC / "index.html", headers=headers)

    def _refused(self) -> Response | None:
        if self.is_away:
            return Response(status_code=502)
        if self.needs_login:
            sentence = "A token is needed. The console has printed where it is."
            return JSONResponse({"error": sentence}, 401)
        return None

    async def _environment(self, _: Request) -> Response:
        return self._refused() or JSONResponse(self.look())

    async def _stream(self, request: Request) -> Response:
        async def snapshots() -> AsyncIterator[str]:
            while not self.is_away and not await request.is_disconnected():
                yield f"event: snapshot\ndata: {json.dumps(self.look())}\n\n"
                await asyncio.sleep(_EVERY)

        refused = self._refused()
        return refused or StreamingResponse(snapshots(), media_type="text/event-stream")

    async def _feed(self, request: Request) -> Response:
        async def changes() -> AsyncIterator[str]:
            yield ": open\n\n"
            sent = 0
            while not self.is_away and not await request.is_disconnected():
                for change in self.changes[sent:]:
                    yield f"id: {change['sequence']}\nevent: change\ndata: {json.dumps(change)}\n\n"
                    sent += 1
                await asyncio.sleep(0.05)

        return StreamingResponse(changes(), media_type="text/event-stream")

    async def _login(self, request: Request) -> Response:
        if (await request.json())["token"] != "right":  # noqa: S105 - of the test
            return JSONResponse({"error": "This token is not the console's."}, 401)
        self.needs_login = False
        return JSONResponse({"actor": {"name": "ann", "roles": ["view"]}})

    async def _action(self, request: Request) -> Response:
        name, body = request.path_params["name"], await request.json()
        self.requests.append((name, body))
        asked = f"{name}?" if body["dry_run"] else name
        default: Document = (
            {"result": _DRY, "sentence": _SENTENCE}
            if body["dry_run"]
            else {"result": {}}
        )
        status, document = self.answers.get(asked, (200, default))
        return JSONResponse(document, status)

    async def _task(self, _: Request) -> Response:
        status, document = self.task
        return self._refused() or JSONResponse(document, status)

    async def _screen(self, request: Request) -> Response:
        found = self.screens.get(request.path_params["path"])
        if found is None:
            return self._refused() or JSONResponse(
                {"error": "There is no such page."}, 404
            )
        return self._refused() or JSONResponse(found)


@contextmanager
def serving(staged: Staged) -> Iterator[Staged]:
    """Serve it on a free port of this machine, in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        staged.app(), log_level="error", lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    staged.url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    try:
        yield staged
    finally:
        staged.is_away = True  # streams end
        server.should_exit = True
        thread.join(10)
        listener.close()
