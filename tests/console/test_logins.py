"""Logins: what lets in, what does not, and how long guessing takes."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from argon2 import PasswordHasher

from pend_storage.config import Settings
from pend_storage.console import Console
from pend_storage.console._app import application
from pend_storage.console._logins import (
    COOKIE,
    LoopbackAuthority,
    PasswordAuthority,
    ProxyAuthority,
    TokenAuthority,
)
from pend_storage.console._serving import Listen, Logins, parse_listen
from pend_storage.errors import ConfigError
from tests.console.conftest import SAME, Browser

TOKEN: Final = "0123456789abcdef" * 4
OTHER: Final = "fedcba9876543210" * 4
PATH: Final = "/api/v1/environment"


def secret_file(path: Path, *lines: str, mode: int = 0o600) -> Path:
    path.write_text("\n".join(lines) + "\n")
    path.chmod(mode)
    return path


@pytest.fixture
def serve(lonely: Settings) -> Iterator[Callable[..., Browser]]:
    """Function that makes a browser at a console with an authority."""
    made: list[Console] = []

    def build(authority: object, **options: str) -> Browser:
        made.append(application(lonely, authority))  # type: ignore[arg-type]
        return Browser(made[-1], **options)  # type: ignore[arg-type]

    yield build
    for app in made:
        app.close()


# -- the loopback interface ---------------------------------------------------------------


def test_this_machine_needs_no_login(serve: Callable[..., Browser]) -> None:
    assert serve(LoopbackAuthority()).get(PATH).status_code == 200


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.2", "8.8.8.8", ""])
def test_another_machine_is_refused(
    address: str, serve: Callable[..., Browser]
) -> None:
    answer = serve(LoopbackAuthority(), address=address).get(PATH)

    assert answer.status_code == 403
    assert "its own machine only" in answer.json()["error"]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_a_proxy_on_this_machine_is_refused(
    header: str, serve: Callable[..., Browser]
) -> None:
    answer = serve(LoopbackAuthority()).get(PATH, headers={header: "127.0.0.1"})

    assert answer.status_code == 403


# -- tokens -------------------------------------------------------------------------------


@pytest.fixture
def tokens(tmp_path: Path, serve: Callable[..., Browser]) -> tuple[Path, Browser]:
    file = secret_file(
        tmp_path / "tokens",
        "# people",
        f"ann view,operate {TOKEN}",
        f"bob view {OTHER}",
    )
    return file, serve(TokenAuthority(file))


def log_in(browser: Browser, token: str, address: str = "127.0.0.1") -> str | None:
    at = Browser(browser.app, address=address)
    answer = at.ask("POST", "/api/v1/session", json={"token": token}, headers=SAME)
    cookie: str | None = answer.headers.get("set-cookie")
    return cookie


def test_a_token_gives_a_cookie_that_no_script_reads(
    tokens: tuple[Path, Browser],
) -> None:
    _, browser = tokens
    assert browser.get(PATH).status_code == 401
    assert browser.get("/api/v1/session").json()["login"] == "token"

    cookie = log_in(browser, TOKEN)

    assert cookie is not None
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    value = cookie.partition(";")[0]
    found = browser.get(PATH, headers={"Cookie": value}).json()
    assert found["actor"] == {"name": "ann", "roles": ["operate", "view"]}


def test_a_program_sends_its_token(tokens: tuple[Path, Browser]) -> None:
    _, browser = tokens

    good = browser.get(PATH, headers={"Authorization": f"Bearer {OTHER}"})
    bad = browser.get(PATH, headers={"Authorization": f"Bearer {OTHER}x"})

    assert good.json()["actor"]["name"] == "bob"
    assert bad.status_code == 401
    assert bad.headers["www-authenticate"].startswith("Bearer")


def test_a_token_that_was_taken_away_ends_its_sessions(
    tokens: tuple[Path, Browser],
) -> None:
    file, browser = tokens
    cookie = str(log_in(browser, TOKEN)).partition(";")[0]
    secret_file(file, f"bob view {OTHER}")

    assert browser.get(PATH, headers={"Cookie": cookie}).status_code == 401


def test_a_cookie_with_other_roles_or_a_later_end_is_refused(
    tokens: tuple[Path, Browser],
) -> None:
    _, browser = tokens
    name, until, mac = (
        str(log_in(browser, TOKEN))
        .partition(";")[0]
        .removeprefix(f"{COOKIE}=")
        .split(".")
    )
    bob = base64.urlsafe_b64encode(b"bob").decode()
    late = str(int(until) + 1)
    for value in (
        f"{bob}.{until}.{mac}", f"{name}.{late}.{mac}", f"{name}.{until}.{'0' * 64}",
        f"{name}.{until}", "", ".", "..", f"{name}.-1.{mac}", f"{name}.{'9' * 400}.{mac}",
    ):  # fmt: skip
        answer = browser.get(PATH, headers={"Cookie": f"{COOKIE}={value}"})
        assert answer.status_code == 401, value


def test_a_session_ends_by_itself(
    tokens: tuple[Path, Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, browser = tokens
    cookie = str(log_in(browser, TOKEN)).partition(";")[0]
    now = time.time()
    monkeypatch.setattr(
        "pend_storage.console._logins.time.time", lambda: now + 13 * 3600
    )

    assert browser.get(PATH, headers={"Cookie": cookie}).status_code == 401


def test_guessing_is_slowed_down_for_one_address(tokens: tuple[Path, Browser]) -> None:
    _, browser = tokens
    codes = [
        Browser(browser.app, address="127.0.0.9")
        .ask("POST", "/api/v1/session", json={"token": f"{n}" * 64}, headers=SAME)
        .status_code
        for n in range(12)
    ]

    assert codes == [401] * 10 + [429] * 2
    assert log_in(browser, TOKEN, address="127.0.0.9") is None
    assert log_in(browser, TOKEN, address="127.0.0.8") is not None


@pytest.mark.parametrize("body", [{}, [], {"token": 7}, {"token": "a", "more": 1}])
def test_a_login_that_makes_no_sense_is_a_sentence(
    body: object, tokens: tuple[Path, Browser]
) -> None:
    answer = tokens[1].ask("POST", "/api/v1/session", json=body, headers=SAME)

    assert answer.status_code == 422


def test_logging_out_forgets_the_cookie(tokens: tuple[Path, Browser]) -> None:
    answer = tokens[1].ask(
        "DELETE",
        "/api/v1/session",
        headers={**SAME, "Content-Type": "application/json"},
    )

    assert "Max-Age=0" in answer.headers["set-cookie"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_of_tokens_that_others_may_read_is_refused(
    mode: int, tmp_path: Path
) -> None:
    file = secret_file(tmp_path / "tokens", f"ann view {TOKEN}", mode=mode)

    with pytest.raises(ConfigError, match="others than its owner may read it"):
        TokenAuthority(file)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "there is no line in it"),
        ("ann view", "it must be NAME ROLES TOKEN"),
        (f"ann root {TOKEN}", "there is no role 'root'"),
        ("ann view short", "shorter than 32 characters"),
    ],
)
def test_a_line_that_is_wrong_is_named_without_its_secret(
    line: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        TokenAuthority(secret_file(tmp_path / "tokens", line))

    assert TOKEN not in str(refused.value)


def test_a_link_to_a_file_of_tokens_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(secret_file(tmp_path / "tokens", f"ann view {TOKEN}"))

    with pytest.raises(ConfigError):
        TokenAuthority(link)


# -- passwords ----------------------------------------------------------------------------


def basic(name: str, password: str) -> dict[str, str]:
    text = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {text}"}


def test_a_password_is_verified_by_its_hash(
    tmp_path: Path, serve: Callable[..., Browser]
) -> None:
    hashed = PasswordHasher(time_cost=1, memory_cost=64).hash("corréct: horse")
    file = secret_file(tmp_path / "users", f"ann view,operate {hashed}")
    browser = serve(PasswordAuthority(file))

    good = browser.get(PATH, headers=basic("ann", "corréct: horse"))
    again = browser.get(PATH, headers=basic("ann", "corréct: horse"))
    bad = [
        browser.get(PATH, headers=headers)
        for headers in (
            basic("ann", "wrong"), basic("bob", ""), basic("", ""),
            {"Authorization": "Basic !!!"}, {"Authorization": "Basic"}, {},
        )
    ]  # fmt: skip

    assert good.json()["actor"]["name"] == "ann"
    assert again.status_code == 200
    assert {answer.status_code for answer in bad} == {401}
    assert bad[0].headers["www-authenticate"].startswith("Basic")


def test_a_password_in_the_place_of_a_hash_is_refused(tmp_path: Path) -> None:
    file = secret_file(tmp_path / "users", "ann view hunter2")

    with pytest.raises(ConfigError, match="no hash of argon2") as refused:
        PasswordAuthority(file)
    assert "hunter2" not in str(refused.value)


# -- a trusted proxy ----------------------------------------------------------------------

USER: Final = "X-Forwarded-User"


def proxy(**grants: tuple[str, ...]) -> ProxyAuthority:
    return ProxyAuthority(USER, ("10.0.0.0/8",), grants or {"*": ("view",)})


def test_a_trusted_proxy_names_the_user(serve: Callable[..., Browser]) -> None:
    browser = serve(proxy(ann=("operate",)), address="10.1.2.3")

    assert browser.get(PATH, headers={USER: "ann"}).json()["actor"]["roles"] == [
        "operate",
        "view",
    ]
    assert browser.get(PATH, headers={USER: "bob"}).status_code == 401
    assert browser.get(PATH).status_code == 401
    assert browser.get(PATH, headers=[(USER, "ann"), (USER, "bob")]).status_code == 401
    assert browser.get(PATH, headers={USER: "x" * 200}).status_code == 401


@pytest.mark.parametrize("address", ["127.0.0.1", "11.0.0.1", "::1", ""])
def test_a_client_that_is_no_proxy_cannot_name_itself(
    address: str, serve: Callable[..., Browser]
) -> None:
    browser = serve(proxy(), address=address)

    assert browser.get(PATH, headers={USER: "ann"}).status_code == 401


# -- the command's choice -----------------------------------------------------------------


@pytest.mark.parametrize("host", ["10.0.0.2", "10.0.0.1", "::", "ops.example"])
def test_another_address_than_loopback_needs_a_login(host: str) -> None:
    with pytest.raises(ConfigError, match="no login was chosen"):
        Logins().authority(Listen(host, 8080))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "localhost", "::1"])
def test_loopback_needs_none(host: str) -> None:
    assert Logins().authority(Listen(host, 8080)).login == "none"


def test_logins_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    file = secret_file(tmp_path / "tokens", f"ann view {TOKEN}")
    place = Listen("127.0.0.1", 1)

    with pytest.raises(ConfigError, match="choose one login"):
        Logins(token_file=file, trust_header=USER).authority(place)
    with pytest.raises(ConfigError, match="every client could name itself"):
        Logins(trust_header=USER).authority(place)
    with pytest.raises(ConfigError, match="go with --trust-header"):
        Logins(trusted_proxies=("10.0.0.0/8",)).authority(place)
    with pytest.raises(ConfigError, match="--trusted-proxy"):
        Logins(trust_header=USER, trusted_proxies=("ten",)).authority(place)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:8080", "127.0.0.1", 8080), ("[::1]:0", "::1", 0), ("a:1", "a", 1)],
)
def test_an_address_is_parsed(text: str, host: str, port: int) -> None:
    assert parse_listen(text) == Listen(host, port)


@pytest.mark.parametrize("text", ["", "8080", ":8080", "a:", "a:b", "a:65536", "a:-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        parse_listen(text)
