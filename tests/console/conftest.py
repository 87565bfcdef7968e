"""Consoles for tests: of a JSON directory whose database is away, and of a real pair."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import uvicorn

import pend_storage as ps
from pend_storage import console
from pend_storage.config import Settings, load_settings
from pend_storage.console import Console
from pend_storage.schema import Schema

SAME: Final = {"Sec-Fetch-Site": "same-origin"}
"""What a browser sends with a request of the console's own page."""
NOWHERE: Final = "postgresql://app:sEcReT@127.0.0.1:1/none"


@dataclass
class Browser:
    """Client of a console in this process, as one on this machine's loopback interface."""

    app: Console
    address: str = "127.0.0.1"
    headers: Mapping[str, str] = field(default_factory=dict)
    base: str = "http://localhost"

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request, and wait for the whole answer."""
        return asyncio.run(self._ask(method, path, **options))

    async def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app, client=(self.address, 4711))
        async with httpx.AsyncClient(
            transport=transport, base_url=self.base, headers=dict(self.headers)
        ) as client:
            return await client.request(method, path, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Ask for a document."""
        return self.ask("GET", path, **options)

    def snapshot(self) -> dict[str, Any]:
        """Return the snapshot of now."""
        answer = self.get("/api/v1/environment")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def act(self, name: str, **members: Any) -> httpx.Response:
        """Press the button of an action, on the state of now, and wait for its end."""
        answer = self.press(name, self.snapshot()["expected"], **members)
        while answer.status_code == 202:
            answer = self.get(f"/api/v1/tasks/{answer.json()['task']}")
        return answer

    def press(
        self, name: str, expected: Mapping[str, Any], **members: Any
    ) -> httpx.Response:
        """Press the button of an action, on a state that was seen before."""
        body = {
            "idempotency_key": f"{name}-{len(_KEYS)}",
            "expected_phase": expected["phase"],
            "expected_epoch": expected["epoch"],
            "reason": "a test",
            "environment": "production",
            **members,
        }
        _KEYS.append(name)
        return self.ask("POST", f"/api/v1/actions/{name}", json=body, headers=SAME)


_KEYS: Final[list[str]] = []


def configure(
    folder: Path, *, url: str = NOWHERE, environment: str = "production", more: str = ""
) -> Settings:
    """Write the configuration of an environment, and load it."""
    (folder / "data").mkdir(exist_ok=True)
    (folder / "pend.toml").write_text(
        f'[environments.{environment}]\nphase = "json-only"\n'
        'schema = "pend_storage.testing.domain"\n'
        f'[environments.{environment}.json]\ndirectory = "data"\n'
        f'[environments.{environment}.postgres]\nurl = "{url}"\n{more}'
    )
    return load_settings(folder / "pend.toml", environment, environ={})


@pytest.fixture(scope="session")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of an environment whose database does not answer; it is never changed."""
    settings = configure(tmp_path_factory.mktemp("lonely"))
    with ps.open_store(settings.file, environment="production"):
        pass  # the first opening makes the store
    return settings


@pytest.fixture
def make() -> Iterator[Callable[..., Console]]:
    """Function that makes consoles, which are closed at the end."""
    made: list[Console] = []

    def build(*args: Any, **options: Any) -> Console:
        made.append(console.app(*args, **options))
        return made[-1]

    yield build
    for each in made:
        each.close()


@pytest.fixture
def browser(lonely: Settings, make: Callable[..., Console]) -> Browser:
    """Browser at a console of an environment whose database does not answer."""
    return Browser(make(lonely))


@pytest.fixture
def paired(tmp_path: Path, new_migrated_database: Callable[[Schema], str]) -> Settings:
    """Settings of a fresh pair in the phase json-only."""
    from pend_storage.testing.domain import SCHEMA

    settings = configure(tmp_path, url=new_migrated_database(SCHEMA))
    with ps.open_store(settings.file, environment="production"):
        pass
    return settings


@contextmanager
def served(app: Console) -> Iterator[str]:
    """Serve a console at a free port of this machine, in a thread; give its URL."""
    with closing(socket.socket()) as port:
        port.bind(("127.0.0.1", 0))
        port.listen(50)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [port]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
