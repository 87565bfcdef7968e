"""Start of every step: the command line, the data, a threaded server."""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

from flask import Flask
from typing_extensions import override
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

import pend_storage as ps
from pend_storage.config import load_settings
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.sample_data import generate

__all__ = ["serve", "site"]


class Site:
    """Location of the data: by ``pend.toml``, or invented, in a fresh directory."""

    def __init__(self, config: str | None = None) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._store: ps.Store | None = None

    @cached_property
    def data(self) -> Path:
        """The directory of the JSON files."""
        if self.config is not None:
            return load_settings(self.config).require_json().directory
        fresh = Path(tempfile.mkdtemp(prefix="pend-example-")) / "data"
        generate(fresh, irregular=0)
        return fresh

    @property
    def store(self) -> ps.Store:
        """The store, opened when it is first asked for; step 0 never asks."""
        with self._lock:
            if self._store is None:
                self._store = self._open()
            return self._store

    def _open(self) -> ps.Store:
        if self.config is None:
            return ps.JsonStore(SCHEMA, self.data, layouts=LAYOUTS)
        return ps.open_store(self.config)

    def close(self) -> None:
        """Let go of files and connections; the JSON files are up to date then."""
        with self._lock:
            if self._store is not None:
                self._store.close()


site = Site(os.environ.get("PEND_CONFIG"))


def serve(app: Flask) -> None:
    """Serve until a signal comes; then finish what is under way, and close the store."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8000, help="0: any free one")
    parser.add_argument(
        "--config",
        default=site.config,
        help="pend.toml; without it, invented data in JSON files alone",
    )
    options = parser.parse_args()
    site.config = options.config
    # Good for trying things out; in production let gunicorn serve the application.
    server = ThreadedWSGIServer("127.0.0.1", options.port, app, _Quiet)
    server.daemon_threads = False  # so that its end waits for requests under way

    def end(*_: Any) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    where = site.config or site.data
    print(f"serving {where} on http://127.0.0.1:{server.port}", flush=True)
    try:
        server.serve_forever()
    finally:
        site.close()


class _Quiet(WSGIRequestHandler):
    @override
    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Say nothing of each request."""
