"""Requests that a page of another site could send, and others that must not pass."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Final

import pytest

from pend_storage.config import Settings
from pend_storage.console import Console
from pend_storage.console._guard import LARGEST_BODY
from tests.console.conftest import SAME, Browser

ACTION: Final = "/api/v1/actions/validate"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "[",
        "10.0.0.1",
    ],
)
def test_a_foreign_host_is_refused_on_every_path(host: str, browser: Browser) -> None:
    for path in ("/", "/livez", "/api/v1/environment", "/api/v1/session"):
        answer = browser.get(path, headers={"Host": host})
        assert answer.status_code == 400, path
        assert "not allowed" in answer.json()["error"]


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "LOCALHOST"]
)
def test_hosts_of_this_machine_are_allowed(host: str, browser: Browser) -> None:
    assert browser.get("/livez", headers={"Host": host}).status_code == 200


def test_a_further_host_is_allowed_by_name(
    lonely: Settings, make: Callable[..., Console]
) -> None:
    browser = Browser(make(lonely, hosts=("ops.example",)))

    assert browser.get("/livez", headers={"Host": "ops.example:443"}).status_code == 200
    assert browser.get("/livez", headers={"Host": "x.ops.example"}).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
        {"Cookie": "pend_console=x"},
        {"Authorization": "Basic YTpi"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_request_of_another_site_is_refused(
    headers: dict[str, str], method: str, browser: Browser
) -> None:
    path = ACTION if method == "POST" else "/api/v1/session"

    answer = browser.ask(method, path, headers=headers, json={})

    assert answer.status_code == 403
    assert "another site" in answer.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [
        SAME,
        {"Origin": "http://localhost"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
        {"Authorization": "Bearer abc"},
    ],
    ids=str,
)
def test_a_request_of_the_page_or_of_a_program_passes(
    headers: dict[str, str], browser: Browser
) -> None:
    assert browser.ask("POST", ACTION, headers=headers, json={}).status_code == 422


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"],
)
def test_a_body_that_a_form_can_send_is_refused(kind: str, browser: Browser) -> None:
    headers = {**SAME, "Content-Type": kind}

    answer = browser.ask("POST", ACTION, headers=headers, content=b"{}")

    assert answer.status_code == 415


def test_a_body_that_is_too_large_is_refused_before_it_is_read(
    browser: Browser,
) -> None:
    body = json.dumps({"text": "x" * LARGEST_BODY}).encode()
    headers = {**SAME, "Content-Type": "application/json"}

    answer = browser.ask("POST", ACTION, headers=headers, content=body)

    assert answer.status_code == 413


def test_a_body_without_a_length_is_cut_where_it_grows_too_large(
    browser: Browser,
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * (LARGEST_BODY // 10)

    headers = {**SAME, "Content-Type": "application/json"}

    answer = browser.ask("POST", ACTION, headers=headers, content=pieces())

    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["/", "/livez", "/api/v1/environment", "/nothing"])
def test_every_answer_has_the_headers_that_browsers_obey(
    path: str, browser: Browser
) -> None:
    headers = browser.get(path, headers={"Origin": "https://evil.example"}).headers

    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert not [name for name in headers if name.startswith("access-control")]
    if path != "/":
        assert headers["cache-control"] == "no-store"


def test_the_password_of_the_database_is_in_no_answer(browser: Browser) -> None:
    for path in ("/api/v1/environment", "/readyz?verbose", "/api/v1/history"):
        assert "sEcReT" not in browser.get(path).text
