"""The command: ``python docs/examples/fastapi_server --port 8000 --config pend.toml``."""

from __future__ import annotations

import argparse
import os
import socket
import tempfile
from pathlib import Path

import uvicorn
from app import create_app

from pend_storage.sample_data import generate


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="fastapi_server")
    parser.add_argument("--port", type=int, default=8000, help="0: any free one")
    parser.add_argument(
        "--config",
        type=Path,
        default=os.environ.get("PEND_CONFIG"),
        help="pend.toml; without it, invented data in JSON files alone",
    )
    parser.add_argument(
        "--pages", action="store_true", help="serve /docs, to try the routes"
    )
    options = parser.parse_args()
    place = options.config or _invented()
    app = create_app(place, pages=options.pages)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", options.port)) as listening:
        # Accepted connections inherit it; else each answer waits for an acknowledgement.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = listening.getsockname()[1]
        print(f"serving {place} on http://127.0.0.1:{port}", flush=True)
        server.run(sockets=[listening])


def _invented() -> Path:
    """Return a fresh directory with the JSON files of an invented server."""
    data = Path(tempfile.mkdtemp(prefix="pend-example-")) / "data"
    generate(data, irregular=0)
    return data


if __name__ == "__main__":
    main()
