"""Serving: the console as a process of its own."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from pend_storage._shown import shown
from pend_storage.config import Settings
from pend_storage.console._actors import Authority
from pend_storage.console._app import application
from pend_storage.console._logins import (
    LoopbackAuthority,
    PasswordAuthority,
    ProxyAuthority,
    TokenAuthority,
    is_loopback,
)
from pend_storage.errors import ConfigError, StoreUnavailable

__all__ = ["Listen", "Logins", "parse_listen", "serve"]

_BACKLOG = 128
_LAST_ANSWERS = 3
"""Seconds that open pages have at the end of the process."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Address to listen at."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """True where only this machine can connect."""
        return is_loopback(self.host)


def parse_listen(text: str) -> Listen:
    """Parse an address such as ``127.0.0.1:8080`` or ``[::1]:8080``; port 0: any free one.

    Raises:
        ConfigError: it is none.
    """
    host, _, port = text.rpartition(":")
    name = host.removeprefix("[").removesuffix("]")
    if not name or not port.isascii() or not port.isdigit() or int(port) > 65_535:  # noqa: PLR2004 - ports
        raise ConfigError(
            f"--listen: {shown(text)} is no address. Write HOST:PORT, such as "
            "127.0.0.1:8080."
        )
    return Listen(name, int(port))


@dataclass(frozen=True, slots=True, kw_only=True)
class Logins:
    """Logins that were chosen; at most one kind."""

    token_file: Path | None = None
    users: Path | None = None
    trust_header: str | None = None
    trusted_proxies: tuple[str, ...] = ()
    grants: Mapping[str, Iterable[str]] = field(default_factory=dict)

    def authority(self, listen: Listen) -> Authority:
        """Return the authority for an address.

        Raises:
            ConfigError: several were chosen, or none for an address that other machines
                can reach; or a file of it is wrong.
        """
        chosen = [self.token_file, self.users, self.trust_header]
        if sum(each is not None for each in chosen) > 1:
            raise ConfigError(
                "choose one login: --token-file, --users, or --trust-header."
            )
        if self.trust_header is not None:
            grants = self.grants or {"*": ("view",)}
            return ProxyAuthority(self.trust_header, self.trusted_proxies, grants)
        if self.trusted_proxies or self.grants:
            raise ConfigError("--trusted-proxy and --grant go with --trust-header.")
        if self.token_file is not None:
            return TokenAuthority(self.token_file)
        if self.users is not None:
            return PasswordAuthority(self.users)
        if not listen.is_loopback:
            raise ConfigError(
                f"other machines can reach {listen.host}, and no login was chosen: give "
                "--token-file FILE, --users FILE, or --trust-header NAME with "
                "--trusted-proxy CIDR; or listen at 127.0.0.1."
            )
        return LoopbackAuthority()


def serve(
    settings: Settings,
    listen: Listen,
    logins: Logins,
    *,
    read_only: bool,
    headless: bool,
    hosts: Iterable[str],
    runbook: str | None,
    on_ready: Callable[[str], None],
) -> None:
    """Serve the console until the process is ended by SIGINT or SIGTERM.

    Args:
        settings: of the environment.
        listen: the address.
        logins: who is let in.
        read_only: leave the actions out.
        headless: only probes and metrics.
        hosts: further names for the header ``Host``.
        runbook: address of the pages for operators.
        on_ready: gets the URL, once the port is open.

    Raises:
        ConfigError: the login and the address do not fit.
        StoreUnavailable: the address cannot be had.
    """
    authority = logins.authority(listen)
    own = () if listen.host in {"0.0.0.0", "::"} else (listen.host,)  # noqa: S104 - compared
    made = application(
        settings,
        authority,
        read_only=read_only,
        headless=headless,
        hosts=(*own, *hosts),
        runbook=runbook,
    )
    with closing(_open_port(listen)) as port:
        host, number = port.getsockname()[:2]
        shown_host = f"[{host}]" if ":" in host else host
        on_ready(f"http://{shown_host}:{number}/")
        _run(made, port)


def _open_port(listen: Listen) -> socket.socket:
    try:
        [found, *_] = socket.getaddrinfo(
            listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        port = socket.socket(found[0], found[1])
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port.bind(found[4])
        port.listen(_BACKLOG)
    except OSError as error:
        raise StoreUnavailable(
            f"the console cannot listen there: {error.strerror}",
            store=f"{listen.host}:{listen.port}",
        ) from error
    return port


def _run(made: ASGIApp, port: socket.socket) -> None:
    config = uvicorn.Config(
        made,
        # A header of a client must not replace its address: the logins rely on that.
        proxy_headers=False,
        server_header=False,
        date_header=False,
        access_log=False,
        log_config=None,
        lifespan="on",
        timeout_graceful_shutdown=_LAST_ANSWERS,
        ws="none",
    )
    uvicorn.Server(config).run(sockets=[port])
