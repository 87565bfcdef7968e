"""Logins of a console that stands alone: loopback, tokens, passwords, a trusted proxy."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from pend_storage._model.attribution import current_actor
from pend_storage._shown import shown
from pend_storage.console._actors import ROLES, Actor, parse_roles
from pend_storage.console._secret_lines import SecretLine, read_secret_lines
from pend_storage.errors import ConfigError

__all__ = [
    "COOKIE",
    "SESSION_SECONDS",
    "LoopbackAuthority",
    "PasswordAuthority",
    "ProxyAuthority",
    "Throttle",
    "TokenAuthority",
    "is_loopback",
]

COOKIE: Final = "pend_console"
SESSION_SECONDS: Final = 12 * 3600
"""Seconds for which a login holds."""
_LEAST_TOKEN: Final = 32
"""Characters of a token, so that it cannot be guessed."""
_MOST_FAILURES: Final = 10
"""Failed logins of one address within a minute, after which more are refused unread."""
_WINDOW: Final = 60.0
_MOST_ADDRESSES: Final = 10_000
_REMEMBERED: Final = 256
"""Passwords that were verified lately: a hash of argon2 is slow on purpose."""
_VERIFIED_FOR: Final = 300.0


def is_loopback(host: str | None) -> bool:
    """Return whether an address is one of this machine's own loopback interface."""
    if host is None:
        return False
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _client(request: Request) -> str:
    return "" if request.client is None else request.client.host


class LoopbackAuthority:
    """Authority for a console on the loopback interface: all roles, no login.

    A request that came through a proxy is refused: the proxy may have verified no user.
    """

    login = "none"
    _FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")

    async def actor_of(self, request: Request) -> Actor | None:
        """Return the user of this process, for a request of this machine."""
        if not is_loopback(_client(request)):
            return None
        if any(name in request.headers for name in self._FORWARDED):
            return None
        return Actor(f"console of {current_actor()}"[:128], ROLES)

    def challenge(self) -> dict[str, str]:
        """Return no header: there is no login."""
        return {}


class Throttle:
    """Throttle of failed logins: so many a minute for one address. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def is_open(self, address: str) -> bool:
        """Return whether a login of an address may be tried now."""
        with self._lock:
            since, count = self._failures.get(address, (0.0, 0))
        return count < _MOST_FAILURES or time.monotonic() - since > _WINDOW

    def failed(self, address: str) -> None:
        """Count a failed login."""
        now = time.monotonic()
        with self._lock:
            since, count = self._failures.pop(address, (now, 0))
            if now - since > _WINDOW:
                since, count = now, 0
            self._failures[address] = (since, count + 1)
            while len(self._failures) > _MOST_ADDRESSES:
                self._failures.popitem(last=False)


class TokenAuthority:
    """Authority by tokens of a file: one logs in with one, and has a signed cookie then.

    A program sends ``Authorization: Bearer TOKEN``. A token that is taken from the file
    ends its sessions at once: the file is read again where it has changed.
    """

    login = "token"

    def __init__(self, path: Path) -> None:
        """Read the tokens.

        Args:
            path: lines ``NAME ROLES TOKEN``; only its owner may read it.

        Raises:
            ConfigError: the file is missing, others may read it, or a line is wrong.
        """
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._lines = self._read()
        self.throttle = Throttle()

    def _read(self) -> tuple[SecretLine, ...]:
        lines = read_secret_lines(self._path, what="TOKEN")
        for line in lines:
            if len(line.secret) < _LEAST_TOKEN:
                raise ConfigError(
                    f"{self._path}: the token of {shown(line.name)} is shorter than "
                    f"{_LEAST_TOKEN} characters. Make one by: openssl rand -hex 32"
                )
        return lines

    def _current(self) -> tuple[SecretLine, ...]:
        """Return the tokens of now; a file that cannot be read lets nothing in."""
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                self._lines, self._stamp = self._read(), stamp
        except (ConfigError, OSError):
            self._stamp = None
            return ()
        return self._lines

    def log_in(self, token: str) -> tuple[Actor, str] | None:
        """Return the actor of a token, and the value of a cookie; None: it is no token."""
        found = self._line_of(token)
        if found is None:
            return None
        until = int(time.time()) + SESSION_SECONDS
        return Actor(found.name, found.roles), self._cookie(found, until)

    def _line_of(self, token: str) -> SecretLine | None:
        given = hashlib.sha256(token.encode(errors="replace")).digest()
        found = None
        for line in self._current():
            # All are compared, each in constant time: the time says nothing of them.
            if hmac.compare_digest(
                hashlib.sha256(line.secret.encode()).digest(), given
            ):
                found = line
        return found

    def _cookie(self, line: SecretLine, until: int) -> str:
        name = base64.urlsafe_b64encode(line.name.encode()).decode()
        signed = f"{name}.{until}"
        key = line.secret.encode()
        mac = hmac.digest(key, b"pend-console-session\0" + signed.encode(), "sha256")
        return f"{signed}.{mac.hex()}"

    async def actor_of(self, request: Request) -> Actor | None:
        """Return the actor of a cookie or a bearer token."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._bearer(token.strip(), _client(request))
        cookie = request.cookies.get(COOKIE, "")
        name, _, rest = cookie.partition(".")
        until = rest.partition(".")[0]
        if not until.isascii() or not until.isdigit() or len(until) > _LEAST_TOKEN:
            return None
        if int(until) < time.time():
            return None
        for line in self._current():
            encoded = base64.urlsafe_b64encode(line.name.encode()).decode()
            same_name = hmac.compare_digest(encoded.encode(), name.encode())
            wanted = self._cookie(line, int(until)).encode()
            if same_name and hmac.compare_digest(wanted, cookie.encode()):
                return Actor(line.name, line.roles)
        return None

    def _bearer(self, token: str, address: str) -> Actor | None:
        if not self.throttle.is_open(address):
            return None
        found = self._line_of(token)
        if found is None:
            self.throttle.failed(address)
            return None
        return Actor(found.name, found.roles)

    def challenge(self) -> dict[str, str]:
        """Return the header that asks programs for a token."""
        return {"WWW-Authenticate": 'Bearer realm="pend_storage"'}


class PasswordAuthority:
    """Authority by names and passwords (HTTP Basic), kept as hashes of argon2."""

    login = "basic"

    def __init__(self, path: Path) -> None:
        """Read the users.

        Args:
            path: lines ``NAME ROLES HASH``; only its owner may read it.

        Raises:
            ConfigError: the file is missing, others may read it, or a line is wrong.
        """
        self._hasher = PasswordHasher()
        self._users = {line.name: line for line in read_secret_lines(path, what="HASH")}
        for line in self._users.values():
            if not line.secret.startswith("$argon2"):
                raise ConfigError(
                    f"{path}: what stands there for {shown(line.name)} is no hash of "
                    "argon2. Make one by: python -m argon2"
                )
        # An unknown name takes as long as a known one.
        self._no_user = self._hasher.hash("")
        self._verified: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()
        self.throttle = Throttle()

    async def actor_of(self, request: Request) -> Actor | None:
        """Verify the name and the password of a request."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic" or not self.throttle.is_open(_client(request)):
            return None
        try:
            decoded = base64.b64decode(given.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        name, _, password = decoded.partition(":")

        if not await run_in_threadpool(self._is_right, name, password):
            self.throttle.failed(_client(request))
            return None
        line = self._users[name]
        return Actor(line.name, line.roles)

    def _is_right(self, name: str, password: str) -> bool:
        user = self._users.get(name)
        digest = hashlib.sha256(f"{name}\0{password}".encode(errors="replace")).digest()
        if user is not None and self._is_remembered(digest):
            return True
        try:
            self._hasher.verify(
                self._no_user if user is None else user.secret, password
            )
        except (Argon2Error, InvalidHashError):
            return False
        if user is None:
            return False
        with self._lock:
            self._verified[digest] = time.monotonic()
            while len(self._verified) > _REMEMBERED:
                self._verified.popitem(last=False)
        return True

    def _is_remembered(self, digest: bytes) -> bool:
        with self._lock:
            at = self._verified.get(digest)
        return at is not None and time.monotonic() - at < _VERIFIED_FOR

    def challenge(self) -> dict[str, str]:
        """Return the header that makes a browser ask for name and password."""
        return {"WWW-Authenticate": 'Basic realm="pend_storage", charset="UTF-8"'}


class ProxyAuthority:
    """Authority of a proxy that has verified its users, and names them in a header."""

    login = "proxy"

    def __init__(
        self, header: str, proxies: Sequence[str], grants: Mapping[str, Iterable[str]]
    ) -> None:
        """Trust a proxy.

        Args:
            header: the header with the name of the user.
            proxies: networks of the proxies: ``10.0.0.0/8``. No other address is believed.
            grants: roles by the name of a user; those of ``*`` are for all others.

        Raises:
            ConfigError: no proxy, no network, or an unknown role.
        """
        if not proxies:
            raise ConfigError(
                f"--trust-header {header} needs --trusted-proxy CIDR: without it every "
                "client could name itself."
            )
        try:
            self._networks = [ipaddress.ip_network(text) for text in proxies]
        except ValueError as error:
            raise ConfigError(f"--trusted-proxy: {error}.") from error
        self._header = header
        self._grants = {
            name: parse_roles(roles, place=f"--grant {name}")
            for name, roles in grants.items()
        }

    async def actor_of(self, request: Request) -> Actor | None:
        """Return the user whom a trusted proxy names; exactly one name."""
        try:
            address = ipaddress.ip_address(_client(request))
        except ValueError:
            return None
        if not any(address in network for network in self._networks):
            return None
        names = request.headers.getlist(self._header)
        if len(names) != 1 or not names[0].strip():
            return None
        name = names[0].strip()
        roles = self._grants.get(name, self._grants.get("*", frozenset()))
        try:
            return Actor(name, roles) if roles else None
        except ConfigError:  # a name that no record can hold
            return None

    def challenge(self) -> dict[str, str]:
        """Return no header: the proxy has the login."""
        return {}
