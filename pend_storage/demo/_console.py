"""Console of the demo: the environment in a browser, while it is moved."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pend_storage.config import Settings

__all__ = ["console_of"]

_ENDING: Final = 10.0
"""Seconds that the server may take to end."""


@contextmanager
def console_of(settings: Settings, port: int = 0) -> Iterator[str]:
    """Serve a console that only looks, during the block; yield its address.

    Args:
        settings: of the demo's environment.
        port: on the loopback address; 0: a free one.

    Raises:
        OSError: the port is in use.
    """
    import uvicorn

    from pend_storage.console import app

    listener = socket.create_server(("127.0.0.1", port))
    # It only looks: a switch by hand would stop the scenario.
    config = uvicorn.Config(
        app(settings, read_only=True),
        log_level="error",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=server.run, args=([listener],), name="demo-console", daemon=True
    )
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(_ENDING)
        listener.close()
