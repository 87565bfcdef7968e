"""Every route, by its table: who may ask for it, and what is there at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.requests import Request
from starlette.routing import Route

from pend_storage.config import Settings
from pend_storage.console import Actor, Console
from pend_storage.console._actions import ACTIONS
from pend_storage.console._app import application
from pend_storage.console._logins import LoopbackAuthority
from pend_storage.console._routes import ROUTES, RouteSpec
from tests.console.conftest import SAME, Browser

ROLES: Final = ("view", "operate", "reveal")
ENDLESS: Final = {"/api/v1/stream", "/api/v1/changes"}
"""Routes whose answer does not end; they are asked for without an actor only."""
PAGE: Final = Path(__file__).parents[2] / "docs/reference/console-api.md"


def path_of(spec: RouteSpec) -> str:
    return re.sub(r"\{[^}]*\}", "x", spec.path)


def all_of(app: Console) -> Iterator[tuple[str, str]]:
    for route in app.inner.routes:
        assert isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}:
            yield method, route.path


# -- the table ----------------------------------------------------------------------------


def test_the_application_has_the_routes_of_the_table_and_no_other(
    browser: Browser,
) -> None:
    assert sorted(all_of(browser.app)) == sorted((s.method, s.path) for s in ROUTES)


def test_the_page_of_the_reference_has_every_route_with_its_role() -> None:
    rows = re.findall(
        r"^\| `(GET|POST|DELETE) (/[^`?]*)` \| (\w+) \|", PAGE.read_text(), re.MULTILINE
    )

    wanted = {
        (spec.method, spec.path.replace(":path", ""), spec.role or "none")
        for spec in ROUTES
    }
    assert set(rows) == wanted


def test_no_get_changes_anything() -> None:
    assert not [spec for spec in ROUTES if spec.mutates and spec.method == "GET"]


def test_what_needs_no_login_is_this_and_no_more() -> None:
    free = {(spec.method, spec.path) for spec in ROUTES if spec.role is None}

    assert free == {
        ("GET", "/"),
        ("GET", "/static/{name:path}"),
        ("GET", "/livez"),
        ("GET", "/readyz"),
        ("GET", "/api/v1/session"),
        ("POST", "/api/v1/session"),
        ("DELETE", "/api/v1/session"),
    }


# -- roles --------------------------------------------------------------------------------


def asking(roles: tuple[str, ...]) -> Callable[[Request], Actor | None]:
    return lambda _: Actor("ann", roles) if roles else None


@pytest.mark.parametrize("roles", [(), *((role,) for role in ROLES)], ids=str)
def test_every_route_wants_its_role(
    roles: tuple[str, ...], lonely: Settings, make: Callable[..., Console]
) -> None:
    browser = Browser(make(lonely, authorise=asking(roles)))
    for spec in ROUTES:
        if roles and spec.path in ENDLESS:
            continue
        body: dict[str, Any] = {"json": {}} if spec.method != "GET" else {}
        answer = browser.ask(spec.method, path_of(spec), headers=SAME, **body)
        allowed = spec.role is None or spec.role in {*roles, *(("view",) * bool(roles))}
        if not allowed:
            wanted = {403} if roles else {401}
            assert answer.status_code in wanted, (spec, answer.text)
            assert "role" in answer.text or "log in" in answer.text
        elif spec.path != "/api/v1/session":
            assert answer.status_code not in {401, 403}, (spec, answer.text)


@pytest.mark.parametrize("spec", [s for s in ROUTES if s.role], ids=lambda s: s.path)
def test_an_unknown_caller_learns_nothing(
    spec: RouteSpec, lonely: Settings, make: Callable[..., Console]
) -> None:
    browser = Browser(make(lonely, authorise=asking(())))
    body: dict[str, Any] = {"json": {}} if spec.method != "GET" else {}

    answer = browser.ask(spec.method, path_of(spec), headers=SAME, **body)

    assert answer.status_code == 401
    assert set(answer.json()) == {"version", "error", "login"}


def test_a_role_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Exception, match="there is no role 'admin'"):
        Actor("ann", ("admin",))


def test_a_host_that_fails_lets_nothing_in(
    lonely: Settings, make: Callable[..., Console]
) -> None:
    def broken(_: Request) -> Actor:
        raise RuntimeError("the host's session store is down")

    browser = Browser(make(lonely, authorise=broken))

    answer = browser.get("/api/v1/environment")

    assert answer.status_code == 500
    assert "session store" not in answer.text


def test_a_host_may_ask_asynchronously(
    lonely: Settings, make: Callable[..., Console]
) -> None:
    async def who(_: Request) -> Actor:
        return Actor("ann", ("view",))

    assert Browser(make(lonely, authorise=who)).snapshot()["actor"]["name"] == "ann"


# -- read-only and headless ---------------------------------------------------------------


def test_a_console_that_only_looks_has_no_route_that_changes_something(
    lonely: Settings, make: Callable[..., Console]
) -> None:
    browser = Browser(make(lonely, read_only=True))

    assert {m for m, path in all_of(browser.app) if "/actions/" in path} == {"GET"}
    for name in ACTIONS:
        answer = browser.ask("POST", f"/api/v1/actions/{name}", json={}, headers=SAME)
        assert answer.status_code == 405, name
    snapshot = browser.snapshot()
    assert snapshot["read_only"]
    assert all(
        not a["allowed"] and "--read-only" in a["why_not"] for a in snapshot["actions"]
    )


def test_a_headless_console_has_probes_and_metrics_alone(lonely: Settings) -> None:
    app = application(lonely, LoopbackAuthority(), headless=True)
    try:
        found = {path for _, path in all_of(app)}
        browser = Browser(app)

        assert found == {spec.path for spec in ROUTES if spec.headless}
        assert browser.get("/readyz").status_code == 200
        assert browser.get("/").status_code == 404
        assert browser.get("/api/v1/environment").status_code == 404
    finally:
        app.close()


def test_mounted_below_a_prefix_everything_is_there(
    lonely: Settings, make: Callable[..., Console]
) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    app = make(lonely, authorise=asking(ROLES))
    host: Any = Starlette(routes=[Mount("/ops/console", app)])
    browser = Browser(host)

    assert browser.get("/ops/console/livez").json()["ok"]
    assert browser.get("/ops/console/api/v1/environment").json()["environment"]
    page = browser.get("/ops/console/")
    assert page.status_code == 200
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert sources
    assert not [source for source in sources if source.startswith(("/", "http"))]


# -- the page -----------------------------------------------------------------------------


def test_files_of_the_page_have_a_tag_and_are_fixed_by_their_hash(
    browser: Browser,
) -> None:
    first = browser.get("/static/vendor/preact.mjs")
    tag = first.headers["etag"]

    again = browser.get("/static/vendor/preact.mjs", headers={"If-None-Match": tag})
    fixed = browser.get(f"/static/vendor/preact.mjs?v={tag.strip(chr(34))[:16]}")
    wrong = browser.get("/static/vendor/preact.mjs?v=0000")

    assert first.headers["content-type"].startswith("text/javascript")
    assert again.status_code == 304
    assert again.content == b""
    assert "immutable" in fixed.headers["cache-control"]
    assert "immutable" not in wrong.headers["cache-control"]


@pytest.mark.parametrize(
    "name",
    [
        "../_app.py",
        "%2e%2e/_app.py",
        "..%2f_app.py",
        "/etc/passwd",
        "documents.d.ts",
        "",
    ],
)
def test_nothing_outside_of_the_page_is_a_file_of_it(
    name: str, browser: Browser
) -> None:
    answer = browser.get(f"/static/{name}")

    assert answer.status_code == 404


def test_the_page_has_no_inline_script_or_style(browser: Browser) -> None:
    text = browser.get("/").text

    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"<style|\son\w+=|style=|javascript:", text)
