"""Guards of the example servers: what comes without a token, too large, or malformed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.examples.servers import FASTAPI, STEPS, as_admin, legacy_files, running

SERVERS: Final = (*STEPS, FASTAPI)
HASH: Final = f"0x{7:064x}"
ROUTES: Final = (
    ("GET", f"/users/{HASH}"),
    ("POST", "/users"),
    ("PUT", f"/users/{HASH}/tier"),
    ("GET", f"/users/{HASH}/transactions"),
    ("GET", "/kyc/pending"),
    ("POST", "/kyc/status"),
    ("GET", "/no/such/route"),
)
WALLET: Final = {"phoneHash": HASH, "walletAddress": f"0x{7:040x}"}


@pytest.fixture(params=SERVERS, ids=lambda path: path.stem, scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    with running(request.param) as client:
        yield client


def wallets(server: httpx.Client) -> Any:
    """The content of a file, read as soon as it has what was acknowledged."""
    return legacy_files(Path(server.headers["X-Place"]))["wallet-db.json"]


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "",
        "Bearer",
        "Bearer no-such-token",
        f"Bearer {as_admin('ada')['Authorization'][7:-1]}",
        "Basic YWRhOmFkYQ==",
        as_admin()["Authorization"].replace("Bearer", "Basic"),
        as_admin("mallory")["Authorization"],
        b"Bearer \xff\xfe",
    ],
    ids=repr,
)
def test_without_a_token_the_answer_is_401(
    server: httpx.Client, sent: str | bytes | None
) -> None:
    before = wallets(server)
    headers: dict[str, Any] = {} if sent is None else {"Authorization": sent}
    with httpx.Client(base_url=server.base_url, timeout=60) as stranger:
        for method, path in ROUTES:
            body = json.dumps(WALLET) if method != "GET" else None
            typed = {"Content-Type": "application/json", **headers}
            answer = stranger.request(method, path, content=body, headers=typed)

            known = path != "/no/such/route" or "detail" not in answer.text
            assert answer.status_code == (401 if known else 404), (method, path)
            if known:
                assert answer.headers["WWW-Authenticate"].lower() == "bearer"
    assert wallets(server) == before


@pytest.mark.parametrize("script", SERVERS, ids=lambda path: path.stem)
def test_without_configured_tokens_no_token_is_good(script: Path) -> None:
    with running(script, admins=()) as client:
        for sent in (as_admin()["Authorization"], "Bearer"):
            answer = client.get("/kyc/pending", headers={"Authorization": sent})
            assert answer.status_code == 401


@pytest.mark.parametrize("script", [STEPS[3], FASTAPI], ids=lambda path: path.stem)
@pytest.mark.parametrize("tokens", ["ada", "ada:short", f":{'x' * 40}"])
def test_a_weak_token_ends_the_server_at_its_start(script: Path, tokens: str) -> None:
    done = subprocess.run(
        [sys.executable, str(script), "--port", "0"],
        env={**os.environ, "ADMIN_TOKENS": tokens},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert "ADMIN_TOKENS: write NAME:TOKEN" in done.stderr
    assert "x" * 40 not in done.stderr


def test_a_body_that_is_too_large_is_refused(server: httpx.Client) -> None:
    for size in (2**18 + 1, 2**24):
        body = b'{"phoneHash": "' + b"x" * size + b'"}'

        def pieces(body: bytes = body) -> Iterator[bytes]:
            for start in range(0, len(body), 2**16):
                yield body[start : start + 2**16]

        for content in (body, pieces()):  # with a length, and in chunks without one
            try:
                answer = server.post(
                    "/users",
                    content=content,
                    headers={"Content-Type": "application/json"},
                )
            except httpx.TransportError:
                continue  # the server hung up in the middle of it
            assert answer.status_code in {400, 413}, answer.text
            assert len(answer.text) < 1000
    assert server.get("/kyc/pending").status_code == 200


def test_nested_json_is_refused(server: httpx.Client) -> None:
    for body in (b"[" * 100_000, b'{"a":' * 30_000, b'{"phoneHash": ' + b"[" * 50_000):
        answer = server.post(
            "/users", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in {400, 422}, answer.text
        assert len(answer.text) < 1000


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""],
)
def test_what_a_form_of_another_page_can_send_is_refused(
    server: httpx.Client, kind: str
) -> None:
    before = wallets(server)

    answer = server.post(
        "/users", content=json.dumps(WALLET).encode(), headers={"Content-Type": kind}
    )

    assert 400 <= answer.status_code < 500
    assert wallets(server) == before


def test_a_long_cursor_is_not_repeated(server: httpx.Client) -> None:
    answer = server.get("/kyc/pending", params={"after": "A" * 30_000})

    assert 400 <= answer.status_code < 500
    assert len(answer.text) < 500


def test_a_page_has_a_limit(server: httpx.Client) -> None:
    for limit in ("201", "9" * 5000, "-1"):
        answer = server.get("/kyc/pending", params={"limit": limit})
        assert 400 <= answer.status_code < 500
        assert len(answer.text) < 500


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_the_routes_are_not_shown_to_everybody(path: str) -> None:
    with running(FASTAPI) as client:
        assert client.get(path).status_code == 404
