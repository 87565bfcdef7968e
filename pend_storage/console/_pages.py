"""Pages: the files of the console's page, from the package itself."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from pend_storage.console._actors import Actor
from pend_storage.console._guard import failure
from pend_storage.console._site import Site

__all__ = ["asset", "index"]

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
_FOR_A_WHILE: Final = "public, max-age=0, must-revalidate"
_FOR_EVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    packed: bytes
    """The content, compressed."""
    kind: str
    etag: str


@cache
def _assets() -> dict[str, _File]:
    """Read every file that is served, by its name below ``static/``."""
    found: dict[str, _File] = {}
    _collect(files("pend_storage.console") / "static", "", found)
    return found


def _collect(folder: Traversable, prefix: str, found: dict[str, _File]) -> None:
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            _collect(entry, f"{name}/", found)
            continue
        kind = _TYPES.get("." + entry.name.rpartition(".")[2])
        if kind is not None and not entry.name.endswith(".d.ts"):
            content = entry.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:32]
            packed = gzip.compress(content, mtime=0)
            found[name] = _File(content, packed, kind, f'"{digest}"')


async def index(site: Site, request: Request, actor: Actor | None) -> Response:
    """Answer with the page."""
    del site, actor
    return _answer(request, "index.html")


async def asset(site: Site, request: Request, actor: Actor | None) -> Response:
    """Answer with a file of the page; nothing outside of the folder has a name here."""
    del site, actor
    return _answer(request, request.path_params["name"])


def _answer(request: Request, name: str) -> Response:
    found = _assets().get(name)
    if found is None:
        return failure(404, "there is no such file.")
    # A file that is asked for with its own hash never changes.
    named = request.query_params.get("v", "")
    is_fixed = bool(named) and found.etag.strip('"').startswith(named)
    headers = {
        "ETag": found.etag,
        "Cache-Control": _FOR_EVER if is_fixed else _FOR_A_WHILE,
    }
    if found.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    headers["Vary"] = "Accept-Encoding"
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(found.packed, media_type=found.kind, headers=headers)
    return Response(found.content, media_type=found.kind, headers=headers)
